INSERT INTO route_revisions (tenant_id, route_id, revision, generation, definition)
SELECT tenant_id, route_id, revision, generation,
       to_jsonb(r) - ARRAY['secrets', 'secrets_key_id', 'generation', 'enabled_at', 'created_at', 'updated_at']
FROM message_routes r
WHERE tenant_id = $1 AND route_id = $2
