-- Idempotent: a redelivery meets its own key, a re-send with a supplied id meets message_ids.
-- No conflict target: one would need a SELECT policy on telemetry.
WITH fresh AS (
    INSERT INTO message_ids (tenant_id, message_id)
    SELECT DISTINCT tenant_id, message_id FROM incoming_telemetry WHERE supplied
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, message_id
), once AS (
    SELECT DISTINCT ON (tenant_id, message_id) * FROM incoming_telemetry ORDER BY tenant_id, message_id, received_at
)
INSERT INTO telemetry (tenant_id, device_id, time, message_id, type, topic, payload, received_at)
SELECT tenant_id, device_id, time, message_id, type, topic, payload::jsonb, received_at
FROM once LEFT JOIN fresh USING (tenant_id, message_id)
WHERE NOT once.supplied OR fresh.message_id IS NOT NULL
ON CONFLICT DO NOTHING
