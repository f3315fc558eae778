SELECT tenant_id, route_id::text, name, revision, topic_filter, payload_filter, expression, kind, config, policy, enabled, enabled_at,
       generation, deleted_at IS NOT NULL AS deleted, secrets, secrets_key_id
FROM message_routes
WHERE $1::uuid[] IS NULL OR route_id = ANY ($1)
ORDER BY tenant_id, route_id
