SET ROLE pulse_owner;

-- Rows of days without a partition, counted up to a bound: an operator should hear of the first of them.
CREATE FUNCTION telemetry_default_rows() RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    RETURN (SELECT count(*) FROM (SELECT FROM telemetry_default LIMIT 100000) AS counted);
REVOKE ALL ON FUNCTION telemetry_default_rows() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION telemetry_default_rows() TO pulse_ingest;

-- The delivery log is kept for a while. A DELETE with a condition reads: so much of old rows, and nothing else of them.
CREATE INDEX delivery_log_by_age ON delivery_log USING brin (at);
CREATE POLICY read_old ON delivery_log FOR SELECT TO pulse_delivery USING (at < now() - interval '1 day');
CREATE POLICY prune ON delivery_log FOR DELETE TO pulse_delivery USING (at < now() - interval '1 day');
GRANT DELETE, SELECT (at) ON delivery_log TO pulse_delivery;

RESET ROLE;
