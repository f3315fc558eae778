DELETE FROM message_ids WHERE stored_at < now() - make_interval(days => $1)
