UPDATE message_routes
SET name = $3, topic_filter = $4, payload_filter = $5, expression = $6, config = $7, policy = $8, enabled = $9,
    enabled_at = CASE WHEN $9 AND NOT enabled THEN now() ELSE enabled_at END,
    secrets = $10, secrets_key_id = $11, deleted_at = CASE WHEN $12 THEN now() END,
    revision = revision + 1, updated_at = now()
WHERE tenant_id = $1 AND route_id = $2 AND deleted_at IS NULL
RETURNING revision
