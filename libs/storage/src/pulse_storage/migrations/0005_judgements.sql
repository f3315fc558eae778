SET ROLE pulse_owner;

-- How many changes a tenant's routes have had. The row is locked until a change commits, so a tenant's changes commit in
-- the order of their generations, and whoever reads its routes sees all of them up to the highest.
CREATE TABLE route_generations (
    tenant_id     text PRIMARY KEY REFERENCES tenants,
    generation    bigint NOT NULL
);

ALTER TABLE message_routes ADD COLUMN generation bigint NOT NULL DEFAULT 0;
ALTER TABLE route_revisions ADD COLUMN generation bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN route_revisions.generation IS
    'the tenant''s routes as of a generation are, of each route, the latest revision whose generation is not higher';

CREATE TABLE judgements (
    tenant_id     text NOT NULL,
    judged_at     timestamptz NOT NULL,
    judgement_id  uuid NOT NULL,
    generation    bigint NOT NULL,
    message_ids   uuid[] NOT NULL,
    PRIMARY KEY (tenant_id, judged_at, judgement_id)
);
COMMENT ON TABLE judgements IS 'which generation of the routes judged which messages, matched or not; a log, with gaps';
CREATE INDEX judgements_by_age ON judgements USING brin (judged_at);

ALTER TABLE route_generations ENABLE ROW LEVEL SECURITY;
ALTER TABLE route_generations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON route_generations TO pulse_control
    USING (tenant_id = app_tenant()) WITH CHECK (tenant_id = app_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON route_generations TO pulse_control;

ALTER TABLE judgements ENABLE ROW LEVEL SECURITY;
ALTER TABLE judgements FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON judgements TO pulse_control
    USING (tenant_id = app_tenant()) WITH CHECK (tenant_id = app_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON judgements TO pulse_control;
CREATE POLICY log ON judgements FOR INSERT TO pulse_router WITH CHECK (true);
GRANT INSERT ON judgements TO pulse_router;
-- A DELETE with a condition reads: so much of old rows, and nothing of what they say.
CREATE POLICY read_old ON judgements FOR SELECT TO pulse_router USING (judged_at < now() - interval '1 day');
CREATE POLICY prune ON judgements FOR DELETE TO pulse_router USING (judged_at < now() - interval '1 day');
GRANT DELETE, SELECT (judged_at) ON judgements TO pulse_router;

GRANT SELECT (generation) ON message_routes TO pulse_router;

RESET ROLE;
