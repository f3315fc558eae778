"""The MQTT edge: from what the broker hands over to the intake, and back to an acknowledgement.

The broker authenticated the device and confined it to its own prefix; the topic therefore says who sent a message. A
subscriber cannot refuse: what cannot be accepted goes to quarantine, and only then is it acknowledged.
"""

from typing import Final

import aiomqtt

from pulse_contracts.ids import InvalidIdentity, TenantId, tenant_id
from pulse_contracts.topics import DeviceTopic, InvalidTopic, parse_device_topic
from pulse_ingest.adapters.arrivals import Arrival as TracedArrival
from pulse_ingest.adapters.arrivals import Arrivals
from pulse_ingest.adapters.authentication import AuthenticationUnavailable, Authenticator
from pulse_ingest.domain.admission import Refusal, Submission
from pulse_ingest.domain.intake import Intake
from pulse_ingest.domain.ports import Busy
from pulse_ingest.mqtt.session import Arrival, MqttSession, SubscriptionRefused
from pulse_ingest.settings import IngestSettings
from pulse_runtime.cancellation import heed_cancellation
from pulse_runtime.clock import Clock
from pulse_runtime.events import BROKER_CONNECTED, BROKER_DISCONNECTED, MESSAGE_QUARANTINED, MESSAGE_REJECTED
from pulse_runtime.logging import get_logger
from pulse_runtime.metrics import IngestMetrics
from pulse_runtime.tracing import trace_id_of

_log = get_logger(__name__)
_RECONNECT_S: Final = 0.5
_BUSY_PAUSE_S: Final = 0.5


class MqttEdge:
    """Keeps a session with the broker and submits what arrives."""

    def __init__(
        self,
        settings: IngestSettings,
        *,
        intake: Intake,
        authenticator: Authenticator,
        metrics: IngestMetrics,
        arrivals: Arrivals,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._authenticator = authenticator
        self._metrics = metrics
        self._arrivals = arrivals
        self._clock = clock
        self._broker = f"{settings.mqtt_host}:{settings.mqtt_port}"
        self.trouble: str | None = "not subscribed yet"
        """Why no message can arrive, or None."""

    async def run(self) -> None:
        """Stay subscribed until cancelled. A new connection is a new session object: old packet ids mean nothing."""
        while True:
            try:
                await MqttSession(self._settings, self._receive).run(self._subscribed)
            except* (aiomqtt.MqttError, SubscriptionRefused, OSError) as group:
                self.trouble = f"{self._broker}: {group.exceptions[0]}"
                _log.warning(BROKER_DISCONNECTED, broker=self._broker, error=str(group.exceptions[0]))
            self._metrics.mqtt_connected.labels(broker=self._broker).set(0)
            heed_cancellation()
            await self._clock.sleep(_RECONNECT_S)

    def _subscribed(self) -> None:
        self.trouble = None
        self._metrics.mqtt_connected.labels(broker=self._broker).set(1)
        _log.info(BROKER_CONNECTED, broker=self._broker)

    async def _receive(self, arrival: Arrival) -> None:
        """Return when the message may be acknowledged, however long that takes."""
        if arrival.retained:
            # A retained message is repeated at every subscription; it was received when it was published.
            self._count("duplicate")
            return
        trace = self._arrivals.over_mqtt(arrival.user_properties.get("traceparent"))
        topic = await self._judge_topic(arrival.topic)
        if isinstance(topic, DeviceTopic):
            await self._submit(topic, arrival, trace)
        else:
            await self._quarantine(arrival, topic, trace)

    async def _judge_topic(self, topic: str) -> DeviceTopic | Refusal:
        try:
            parsed = parse_device_topic(topic)
        except InvalidTopic as exc:
            return Refusal(reason="topic_invalid", field="topic", error=str(exc))
        if not await self._knows(parsed):
            return Refusal(reason="device_unknown", field="device_id", error="device_id: no such device")
        return parsed

    async def _knows(self, topic: DeviceTopic) -> bool:
        """Whether the device exists. While that cannot be asked the broker's word is taken: it let the device in.

        Waiting instead would hold up the acknowledgements of everybody behind, which go out in order.
        """
        try:
            return await self._authenticator.knows_device(topic.tenant, topic.device)
        except AuthenticationUnavailable:
            return True

    async def _submit(self, topic: DeviceTopic, arrival: Arrival, trace: TracedArrival) -> None:
        submission = Submission(
            topic=topic,
            body=arrival.body,
            supplied_id=arrival.user_properties.get("message-id"),
            traceparent=trace.traceparent,
        )
        envelope = self._intake.admit(submission)
        if isinstance(envelope, Refusal):
            await self._quarantine(arrival, envelope, trace)
            trace.end(topic, envelope)
            return
        while isinstance(outcome := await self._intake.commit(envelope), Busy):
            # Not acknowledged: the broker's window fills and it stops sending.
            self._count("unavailable")
            if not arrival.is_owed:
                return
            await self._clock.sleep(_BUSY_PAUSE_S)
        trace.end(topic, outcome)
        self._count("duplicate" if outcome.duplicate else "accepted")

    async def _quarantine(self, arrival: Arrival, refusal: Refusal, trace: TracedArrival) -> None:
        tenant, trace_id = self._tenant_of(arrival.topic), trace_id_of(trace.traceparent)
        if tenant is None:
            self._count("rejected")
            _log.warning(MESSAGE_REJECTED, protocol="mqtt", reason="tenant_unknown", trace_id=trace_id)
            return
        self._count("quarantined")
        _log.info(MESSAGE_QUARANTINED, tenant_id=tenant, reason=refusal.reason, trace_id=trace_id)
        record = self._intake.record(tenant, arrival.topic, arrival.body, refusal)
        while isinstance(await self._intake.keep(record), Busy) and arrival.is_owed:
            await self._clock.sleep(_BUSY_PAUSE_S)

    def _tenant_of(self, topic: str) -> TenantId | None:
        """Return the known tenant that a topic names, however wrong the rest of it is."""
        levels = topic.split("/", 2)
        if len(levels) < 2 or levels[0] != "tenant":  # noqa: PLR2004 - tenant/{tenant_id}
            return None
        try:
            tenant = tenant_id(levels[1])
        except InvalidIdentity:
            return None
        return tenant if self._authenticator.knows_tenant(tenant) else None

    def _count(self, result: str) -> None:
        self._metrics.messages_total.labels(protocol="mqtt", result=result).inc()
