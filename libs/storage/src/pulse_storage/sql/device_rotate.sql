-- Returns whether the device was revoked, no row if there is none; one that was keeps its token unless reinstated ($5).
WITH found AS (
    SELECT revoked_at IS NOT NULL AS revoked FROM devices WHERE tenant_id = $1 AND device_id = $2 FOR UPDATE
), changed AS (
    UPDATE devices SET token_sha256 = $3, token_bcrypt = $4, revoked_at = NULL
    FROM found
    WHERE tenant_id = $1 AND device_id = $2 AND ($5 OR NOT found.revoked)
)
SELECT revoked FROM found
