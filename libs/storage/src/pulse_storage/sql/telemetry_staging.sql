-- COPY into a table with row security is refused, and COPY cannot be idempotent: batches land here first.
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_telemetry (
    tenant_id text, device_id text, time timestamptz, message_id uuid, type text, topic text, payload text,
    received_at timestamptz, supplied boolean
) ON COMMIT DELETE ROWS
