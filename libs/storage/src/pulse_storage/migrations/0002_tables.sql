SET ROLE pulse_owner;

-- The tenant of the transaction, or NULL: after a reset the setting is '', which must match nothing.
CREATE FUNCTION app_tenant() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.tenant_id', true), '');

CREATE TABLE tenants (
    tenant_id     text PRIMARY KEY,
    name          text NOT NULL,
    ingest_key_sha256 bytea NOT NULL,
    ingest_key_bcrypt text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE devices (
    tenant_id     text NOT NULL REFERENCES tenants,
    device_id     text NOT NULL,
    token_sha256  bytea NOT NULL,
    token_bcrypt  text NOT NULL,
    revoked_at    timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, device_id)
);

CREATE UNIQUE INDEX devices_token ON devices (token_sha256);

CREATE TABLE message_routes (
    tenant_id         text NOT NULL REFERENCES tenants,
    route_id          uuid NOT NULL,
    name              text NOT NULL,
    revision          integer NOT NULL DEFAULT 1,
    topic_filter      text NOT NULL,
    payload_filter    jsonb,
    expression        text,
    kind              text NOT NULL,
    config            jsonb NOT NULL,
    policy            jsonb NOT NULL DEFAULT '{}',
    enabled           boolean NOT NULL DEFAULT true,
    enabled_at        timestamptz NOT NULL DEFAULT now(),
    secrets           bytea,
    secrets_key_id    text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    deleted_at        timestamptz,
    PRIMARY KEY (tenant_id, route_id)
);
COMMENT ON COLUMN message_routes.secrets IS 'AES-GCM, bound to tenant and route; the key is secrets_key_id';
COMMENT ON COLUMN message_routes.enabled_at IS 'parked time does not count towards max_age: ages begin here at the latest';
COMMENT ON COLUMN message_routes.deleted_at IS 'a tombstone: the only thing that means the route is gone';
CREATE UNIQUE INDEX message_routes_name ON message_routes (tenant_id, name) WHERE deleted_at IS NULL;

CREATE TABLE route_revisions (
    tenant_id     text NOT NULL,
    route_id      uuid NOT NULL,
    revision      integer NOT NULL,
    definition    jsonb NOT NULL,
    recorded_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, route_id, revision),
    FOREIGN KEY (tenant_id, route_id) REFERENCES message_routes
);
COMMENT ON COLUMN route_revisions.definition IS 'the route as it was, without secrets';

-- The key holds the partition column, as PostgreSQL demands; time travels in the envelope, so a redelivery has the
-- same key. What a re-send with an id could change (its time) is caught by message_ids.
CREATE TABLE telemetry (
    tenant_id     text NOT NULL,
    device_id     text NOT NULL,
    time          timestamptz NOT NULL,
    message_id    uuid NOT NULL,
    type          text NOT NULL,
    topic         text NOT NULL,
    payload       jsonb NOT NULL,
    received_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, device_id, time, message_id)
) PARTITION BY RANGE (time);
CREATE TABLE telemetry_default PARTITION OF telemetry DEFAULT;

CREATE TABLE message_ids (
    tenant_id     text NOT NULL,
    message_id    uuid NOT NULL,
    stored_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, message_id)
);
COMMENT ON TABLE message_ids IS 'ids that devices supplied: a re-send within the retention is one row';

CREATE TABLE quarantine (
    tenant_id     text NOT NULL,
    quarantine_id uuid NOT NULL,
    topic         text NOT NULL,
    reason        text NOT NULL,
    error         text NOT NULL,
    payload       bytea NOT NULL,
    received_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, quarantine_id)
);

CREATE TABLE dead_letter_messages (
    tenant_id          text NOT NULL,
    message_id         uuid NOT NULL,
    route_id           uuid NOT NULL,
    replay_number      integer NOT NULL DEFAULT 0,
    device_id          text NOT NULL,
    original_topic     text NOT NULL,
    payload            jsonb NOT NULL,
    destination_type   text NOT NULL,
    destination_config jsonb NOT NULL,
    reason             text NOT NULL,
    error_message      text NOT NULL CHECK (length(error_message) <= 2000),
    attempts           integer NOT NULL,
    status             text NOT NULL DEFAULT 'FAILED' CHECK (status IN ('FAILED', 'REPLAYED', 'DISCARDED')),
    created_at         timestamptz NOT NULL,
    replayed_at        timestamptz,
    PRIMARY KEY (tenant_id, message_id, route_id, replay_number)
);
COMMENT ON COLUMN dead_letter_messages.destination_config IS 'secrets masked';
CREATE INDEX dead_letter_messages_recent ON dead_letter_messages (tenant_id, created_at DESC);

CREATE TABLE delivery_log (
    tenant_id     text NOT NULL,
    message_id    uuid NOT NULL,
    route_id      uuid NOT NULL,
    attempt       integer NOT NULL,
    revision      integer NOT NULL,
    outcome       text NOT NULL,
    status        integer,
    error         text,
    duration_ms   double precision NOT NULL,
    at            timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, message_id, route_id, attempt, at)
);

CREATE TABLE admin_log (
    tenant_id     text NOT NULL,
    entry_id      uuid NOT NULL,
    actor         text NOT NULL,
    action        text NOT NULL,
    subject       text NOT NULL,
    at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, entry_id)
);

RESET ROLE;
