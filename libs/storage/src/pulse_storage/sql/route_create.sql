WITH change AS (
    INSERT INTO route_generations AS known (tenant_id, generation) VALUES ($1, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET generation = known.generation + 1
    RETURNING generation
)
INSERT INTO message_routes (tenant_id, route_id, name, topic_filter, payload_filter, expression, kind, config, policy,
                            secrets, secrets_key_id, generation)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, generation FROM change
