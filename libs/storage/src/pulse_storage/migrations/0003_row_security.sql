SET ROLE pulse_owner;

DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['tenants', 'devices', 'message_routes', 'route_revisions', 'telemetry', 'message_ids',
                                      'quarantine', 'dead_letter_messages', 'delivery_log', 'admin_log'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
    END LOOP;
    -- Tenant-facing access: everything that an operator does for a tenant happens in that tenant's context.
    FOREACH table_name IN ARRAY ARRAY['devices', 'message_routes', 'route_revisions', 'telemetry', 'message_ids',
                                      'quarantine', 'dead_letter_messages', 'delivery_log', 'admin_log'] LOOP
        EXECUTE format('CREATE POLICY tenant ON %I TO pulse_control USING (tenant_id = app_tenant()) '
                       'WITH CHECK (tenant_id = app_tenant())', table_name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO pulse_control', table_name);
    END LOOP;
END $$;

-- The list of tenants is the operator's own.
CREATE POLICY operator ON tenants TO pulse_control USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON tenants TO pulse_control;

-- Machine policies: one batch holds many tenants, so each service gets just the verb and the columns it needs.
CREATE POLICY authenticate ON devices FOR SELECT TO pulse_ingest USING (true);
GRANT SELECT (tenant_id, device_id, token_sha256, revoked_at) ON devices TO pulse_ingest;
CREATE POLICY authenticate ON tenants FOR SELECT TO pulse_ingest USING (true);
GRANT SELECT (tenant_id, ingest_key_sha256) ON tenants TO pulse_ingest;

CREATE POLICY store ON telemetry FOR INSERT TO pulse_ingest WITH CHECK (true);
GRANT INSERT ON telemetry TO pulse_ingest;
CREATE POLICY store ON message_ids FOR INSERT TO pulse_ingest WITH CHECK (true);
CREATE POLICY recognise ON message_ids FOR SELECT TO pulse_ingest USING (true);
GRANT INSERT, SELECT ON message_ids TO pulse_ingest;
CREATE POLICY prune ON message_ids FOR DELETE TO pulse_ingest USING (stored_at < now() - interval '1 day');
GRANT DELETE ON message_ids TO pulse_ingest;
CREATE POLICY store ON quarantine FOR INSERT TO pulse_ingest WITH CHECK (true);
GRANT INSERT ON quarantine TO pulse_ingest;

CREATE POLICY match ON message_routes FOR SELECT TO pulse_router USING (true);
GRANT SELECT (tenant_id, route_id, name, revision, topic_filter, payload_filter, expression, kind, config, policy,
              enabled, enabled_at, deleted_at) ON message_routes TO pulse_router;

CREATE POLICY deliver ON message_routes FOR SELECT TO pulse_delivery USING (true);
GRANT SELECT ON message_routes TO pulse_delivery;
CREATE POLICY log ON delivery_log FOR INSERT TO pulse_delivery WITH CHECK (true);
GRANT INSERT ON delivery_log TO pulse_delivery;
-- Dead letters hold a tenant's payloads: they are written in that tenant's context, one transaction a tenant.
CREATE POLICY tenant_write ON dead_letter_messages FOR INSERT TO pulse_delivery WITH CHECK (tenant_id = app_tenant());
GRANT INSERT ON dead_letter_messages TO pulse_delivery;

RESET ROLE;
