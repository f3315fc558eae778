SELECT message_id::text, route_id::text, device_id, original_topic, destination_type, destination_config, reason,
       error_message, attempts, status, created_at, replayed_at, payload
FROM dead_letter_messages
WHERE ($1::text IS NULL OR message_id::text = $1)
ORDER BY created_at DESC
LIMIT $2
