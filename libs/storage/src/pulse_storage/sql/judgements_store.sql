INSERT INTO judgements (tenant_id, judged_at, judgement_id, generation, message_ids)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
