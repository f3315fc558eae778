SELECT tenant_id, route_id::text, name, revision, topic_filter, payload_filter, expression, kind, config, policy, enabled, enabled_at,
       generation, deleted_at IS NOT NULL AS deleted
FROM message_routes
WHERE route_id = ANY ($1::uuid[])
ORDER BY tenant_id, route_id
