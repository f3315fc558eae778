SELECT route_id::text, name, enabled, deleted_at IS NOT NULL AS deleted
FROM message_routes
WHERE tenant_id = $1 AND route_id = ANY ($2::uuid[])
