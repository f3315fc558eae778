DELETE FROM judgements WHERE judged_at < now() - make_interval(days => $1)
