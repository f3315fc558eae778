INSERT INTO dead_letter_messages (tenant_id, message_id, route_id, device_id, original_topic, payload,
                                  destination_type, destination_config, reason, error_message, attempts, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT DO NOTHING
