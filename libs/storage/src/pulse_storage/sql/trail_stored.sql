-- A supplied id says nothing about its time, so all partitions are looked at; one of Pulse's own bounds the device's time.
SELECT device_id, type, topic, time, received_at
FROM telemetry
WHERE tenant_id = $1 AND message_id = $2 AND time >= $3 AND time < $4
LIMIT 1
