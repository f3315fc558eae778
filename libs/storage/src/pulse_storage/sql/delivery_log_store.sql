INSERT INTO delivery_log (tenant_id, message_id, route_id, attempt, revision, outcome, status, error, duration_ms, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT DO NOTHING
