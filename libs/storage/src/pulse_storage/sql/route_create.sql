INSERT INTO message_routes (tenant_id, route_id, name, topic_filter, payload_filter, expression, kind, config, policy,
                            secrets, secrets_key_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
