"""The names of log events, `noun_verb_past`.

An event's name is part of the interface: alerts and saved searches match on it. A name that the predecessor had is kept
with its fields. Fields are ids and numbers; payloads and secrets are never among them.
"""

from typing import Final

# The process.
SERVICE_STARTED: Final = "service_started"
"""service, version, instance (the owner of its turns), settings (masked): everything is connected and subscribed."""
START_REFUSED: Final = "start_refused"
"""error: a setting or a limit of the host forbids starting."""
SERVICE_STOPPING: Final = "service_stopping"
"""reason: a signal or a failed task ended the run; draining begins."""
SERVICE_STOPPED: Final = "service_stopped"
"""exit_code."""
STATS_REPORTED: Final = "stats_reported"
"""The periodic line of figures; ingest's carries delivery_queue_depth."""
TASK_FAILED: Final = "task_failed"
"""task, exception: an owned task ended although nobody asked it to; the process stops with exit code 1."""
TASKS_ABANDONED: Final = "tasks_abandoned"
"""tasks: did not end within the bound after they were cancelled."""
STOP_STEP_FAILED: Final = "stop_step_failed"
"""step, exception: the steps after it still ran."""
STOP_STEP_TIMED_OUT: Final = "stop_step_timed_out"
"""step, timeout_s: the steps after it still ran."""
STOP_STEPS_SKIPPED: Final = "stop_steps_skipped"
"""steps: did not run, because the time of all steps was over."""
FAILPOINTS_ARMED: Final = "failpoints_armed"
"""failpoints: this process is made to fail on purpose."""
EVENT_LOOP_BLOCKED: Final = "event_loop_blocked"
"""blocked_s: nothing ran for that long; the stacks were dumped on stderr meanwhile."""

# Connections.
BROKER_CONNECTED: Final = "broker_connected"
BROKER_DISCONNECTED: Final = "broker_disconnected"

# Streams and consumers.
PUBLISH_REFUSED: Final = "publish_refused"
"""stream, reason: a stream did not take a message; the sender was not acknowledged."""
AGE_UNKNOWN: Final = "age_unknown"
"""cause, error: how old what is owed is could not be measured; the figure shown grows with the clock until it can."""

# Ingest.
MESSAGE_REJECTED: Final = "message_rejected"
"""protocol; over HTTP the status of a request that was not accepted whole, and trace_id if its sender named a trace;
over MQTT reason and trace_id."""
MESSAGE_QUARANTINED: Final = "message_quarantined"
"""tenant_id, reason, trace_id, and error where the database refused it: kept in quarantine."""
MESSAGES_COMMITTED: Final = "messages_committed"
"""stream, messages, failed, duration_s, trace_id (of the first): what arrived together is durable, or was refused."""
TELEMETRY_STORED: Final = "telemetry_stored"
"""rows, duplicates, duration_s, lag_s (since the stream took the first), trace_id (of the first): one batch."""
RECORDS_STORED: Final = "records_stored"
"""table, rows, lag_s (since the stream took the first): a batch of the delivery log, judgements or quarantine."""
DELIVERY_QUEUE_FULL: Final = "delivery_queue_full"
"""DELIVERY has no room; the router waits. Once for each time that it fills. Predecessor's name."""

# Router.
MESSAGE_ROUTED: Final = "message_routed"
"""message_id, tenant_id, matches; at debug."""
MESSAGES_ROUTED: Final = "messages_routed"
"""messages, matches, duration_s, lag_s (since the stream took the first), trace_id (of the first): one batch."""
ROUTES_LOADED: Final = "routes_loaded"
ROUTE_SKIPPED: Final = "route_skipped"
"""route_id, error: the route's filter does not compile; the tenant's other routes go on."""
ROUTE_MATCH_ERROR: Final = "route_match_error"
"""route_id, error: one route could not judge one message. Predecessor's name."""
ROUTE_FANOUT_ERROR: Final = "route_fanout_error"
"""tenant_id, subject, stream_seq, error: a message could not be held against its tenant's routes at all; where the
tenant's table failed it comes again after 30 s. Predecessor's name."""
JUDGEMENT_RECORDS_LOST: Final = "judgement_records_lost"
"""count (of messages), error: the log does not say which routes judged them; they were routed all the same."""

# Delivery.
ROUTE_DELIVERED: Final = "route_delivered"
"""route_id, destination, and all of the attempt: one wide line, with its trace_id. Predecessor's name."""
ROUTE_ATTEMPT_FAILED: Final = "route_attempt_failed"
"""The fields of `route_delivered`, and error."""
ROUTE_DELIVERY_FAILED_DLQ: Final = "route_delivery_failed_dlq"
"""route_id, error, destination: it will never succeed. Predecessor's name."""
DLQ_WRITE_FAILED: Final = "dlq_write_failed"
"""route_id, error, and what is known of tenant_id, message_id, trace_id (of the first), rows (of one try): dead letters
are not stored yet, or find no room in DEADLETTER; they stay in their stream and are tried again. Predecessor's name."""
DLQ_WRITTEN: Final = "dlq_written"
"""tenant_id, rows, trace_id (of the first): dead letters of one tenant are in their table."""
MESSAGE_UNREADABLE: Final = "message_unreadable"
"""subject, stream_seq, error: not in a form that this version knows; it becomes a dead letter, its bytes in it."""
SIDING_UNREADABLE: Final = "siding_unreadable"
"""error: what waits could not be looked at; the ages shown of it grow with the clock until it can."""
ROUTE_TROUBLED: Final = "route_troubled"
ROUTE_RECOVERED: Final = "route_recovered"
"""route_id, tenant_id, troubled_s, recovery_s: back on the fast lane, so long after the trouble began, and after the
first success, which comes up to a pause later than the healing."""
TURN_ADOPTED: Final = "turn_adopted"
"""route_id, tenant_id: the process that served the route is gone or stands still; this one goes on."""
ROUTE_PAUSED: Final = "route_paused"
"""route_id, until: the breaker opened."""
OUTAGE_BEGAN: Final = "outage_began"
"""kind: no destination of the kind can be reached from here; pulling slows to a trickle, nothing is shunted."""
OUTAGE_ENDED: Final = "outage_ended"
"""kind, lasted_s, held: one was reached; what was held is offered to its lanes again."""
MESSAGES_SHUNTED: Final = "messages_shunted"
ATTEMPT_RECORDS_LOST: Final = "attempt_records_lost"
"""count: ATTEMPT refused; the delivery log has a gap and `audit` says so."""
DELIVERY_WORKERS_STOPPED: Final = "delivery_workers_stopped"
"""Drained or out of time; the rest stays in the streams. Predecessor's name."""
