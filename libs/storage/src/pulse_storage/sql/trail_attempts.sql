SELECT message_id::text, tenant_id, route_id::text, revision, attempt, outcome, status, error, duration_ms, at
FROM delivery_log
WHERE tenant_id = $1 AND message_id = $2
ORDER BY at, attempt
