SELECT route_id::text, revision, generation
FROM message_routes
ORDER BY tenant_id, route_id
