-- Within a tenant's rows of these times every entry of the index is looked at: it has no message first.
SELECT device_id, type, topic, time, received_at, stored_at
FROM telemetry LEFT JOIN message_ids USING (tenant_id, message_id)
WHERE tenant_id = $1 AND message_id = $2 AND time >= $3 AND time < $4
LIMIT 1
