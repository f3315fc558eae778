SET ROLE pulse_owner;

-- Daily partitions ahead of time. SECURITY DEFINER: the ingest role may make partitions in this one way only.
-- No grants on partitions: reading one directly would bypass the policy of the parent.
CREATE FUNCTION ensure_telemetry_partitions(days_ahead integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    day date;
    partition_name text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('pulse.telemetry_partitions'));
    FOR offset_days IN -1 .. least(days_ahead, 366) LOOP
        day := (now() AT TIME ZONE 'UTC')::date + offset_days;
        partition_name := 'telemetry_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(partition_name) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE TABLE %I PARTITION OF telemetry FOR VALUES FROM (%L) TO (%L)', partition_name,
                           day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
            made := made + 1;
        EXCEPTION WHEN check_violation THEN
            -- Rows of this day are in the default partition already, and the others of the day will join them there.
            RAISE WARNING 'telemetry of % stays in the default partition', day;
        END;
    END LOOP;
    RETURN made;
END $$;
REVOKE ALL ON FUNCTION ensure_telemetry_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_telemetry_partitions(integer) TO pulse_ingest;

CREATE FUNCTION announce_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_ARGV[0], NEW.tenant_id);
    RETURN NULL;
END $$;
CREATE TRIGGER announce AFTER INSERT OR UPDATE ON message_routes
    FOR EACH ROW EXECUTE FUNCTION announce_change('pulse_routes');
CREATE TRIGGER announce AFTER INSERT OR UPDATE ON devices
    FOR EACH ROW EXECUTE FUNCTION announce_change('pulse_devices');
CREATE TRIGGER announce AFTER INSERT OR UPDATE ON tenants
    FOR EACH ROW EXECUTE FUNCTION announce_change('pulse_devices');

RESET ROLE;
