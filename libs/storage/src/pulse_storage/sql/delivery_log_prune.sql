DELETE FROM delivery_log WHERE at < now() - make_interval(days => $1)
