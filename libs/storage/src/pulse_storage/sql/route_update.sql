WITH change AS (
    INSERT INTO route_generations AS known (tenant_id, generation) VALUES ($1, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET generation = known.generation + 1
    RETURNING generation
)
UPDATE message_routes
SET name = $3, topic_filter = $4, payload_filter = $5, expression = $6, config = $7, policy = $8, enabled = $9,
    enabled_at = CASE WHEN $9 AND NOT enabled THEN now() ELSE enabled_at END,
    secrets = $10, secrets_key_id = $11, deleted_at = CASE WHEN $12 THEN now() END,
    revision = revision + 1, generation = change.generation, updated_at = now()
FROM change
WHERE tenant_id = $1 AND route_id = $2 AND deleted_at IS NULL AND revision = $13
RETURNING revision
