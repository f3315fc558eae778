SELECT generation, judged_at
FROM judgements
WHERE tenant_id = $1 AND judged_at >= $3 AND $2 = ANY (message_ids)
ORDER BY judged_at
LIMIT 1
