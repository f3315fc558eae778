-- The services' roles with their passwords, before the first `pulse migrate`; to be run by psql as a superuser, with the
-- passwords in the environment. What each may do the migrations say: none of them owns a table or sees all tenants.
\set ON_ERROR_STOP on
\getenv ingest POSTGRES_PASSWORD_INGEST
\getenv router POSTGRES_PASSWORD_ROUTER
\getenv delivery POSTGRES_PASSWORD_DELIVERY
\getenv control POSTGRES_PASSWORD_CONTROL
CREATE ROLE pulse_ingest LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD :'ingest';
CREATE ROLE pulse_router LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD :'router';
CREATE ROLE pulse_delivery LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD :'delivery';
CREATE ROLE pulse_control LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD :'control';
