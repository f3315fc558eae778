SELECT route_id::text, revision
FROM message_routes
ORDER BY tenant_id, route_id
