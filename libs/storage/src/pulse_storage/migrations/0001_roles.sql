-- One role a service. None owns a table, none bypasses row security; operators give them LOGIN and a password.
-- Roles are shared by all databases of a server, so another installation may have made them already.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['pulse_owner', 'pulse_ingest', 'pulse_router', 'pulse_delivery', 'pulse_control'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
    EXECUTE format('GRANT pulse_owner TO %I', current_user);
    EXECUTE format('GRANT CREATE ON DATABASE %I TO pulse_owner', current_database());
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO pulse_ingest', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO pulse_ingest, pulse_router, pulse_delivery, pulse_control',
                   current_database());
END $$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO pulse_owner;
GRANT USAGE ON SCHEMA public TO pulse_ingest, pulse_router, pulse_delivery, pulse_control;
