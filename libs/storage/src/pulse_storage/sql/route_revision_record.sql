INSERT INTO route_revisions (tenant_id, route_id, revision, definition)
SELECT tenant_id, route_id, revision,
       to_jsonb(r) - ARRAY['secrets', 'secrets_key_id', 'enabled_at', 'created_at', 'updated_at']
FROM message_routes r
WHERE tenant_id = $1 AND route_id = $2
