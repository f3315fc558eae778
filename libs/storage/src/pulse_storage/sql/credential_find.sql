SELECT tenant_id, device_id, token_sha256 FROM devices WHERE token_sha256 = $1 AND revoked_at IS NULL
UNION ALL
SELECT tenant_id, NULL, ingest_key_sha256 FROM tenants WHERE ingest_key_sha256 = $1
LIMIT 1
