INSERT INTO quarantine (tenant_id, quarantine_id, topic, reason, error, payload, received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING
