INSERT INTO admin_log (tenant_id, entry_id, actor, action, subject)
VALUES ($1, gen_random_uuid(), $2, $3, $4)
