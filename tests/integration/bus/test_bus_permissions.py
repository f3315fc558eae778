import re

import nats
import pytest

from pulse_bus.permissions import SERVICES
from pulse_testkit.nats import Bus

MAY_PUBLISH = {
    "ingest": (
        "telemetry.acme.d1.up.status",
        "quarantine.acme",
        "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.store",
        "$JS.API.CONSUMER.INFO.TELEMETRY.store",
        "$JS.API.CONSUMER.INFO.TELEMETRY.router",
        "$JS.API.STREAM.PURGE.TELEMETRY",
        "$JS.API.CONSUMER.MSG.NEXT.QUARANTINE.quarantine-writer",
        "$JS.ACK.TELEMETRY.store.1.1.1.1.0",
        "$JS.ACK.domain.hash.TELEMETRY.store.1.1.1.1.0.token",
        "$JS.ACK.QUARANTINE.quarantine-writer.1.1.1.1.0",
        "$JS.API.CONSUMER.INFO.DELIVERY.deliver-webhook",
        "$JS.API.CONSUMER.NAMES.DELIVERY",
        "$JS.API.STREAM.INFO.SIDING",
        "$JS.API.DIRECT.GET.TELEMETRY",
    ),
    "router": (
        "delivery.webhook.acme.r1",
        "judgement.acme",
        "$JS.API.CONSUMER.MSG.NEXT.ATTEMPT.judgement-writer",
        "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.router",
        "$JS.API.CONSUMER.INFO.TELEMETRY.router",
        "$JS.ACK.TELEMETRY.router.1.1.1.1.0",
    ),
    "delivery": (
        "siding.webhook.acme.r1",
        "deadletter.acme.r1",
        "attempt.acme.r1",
        "export.acme.alarms",
        "$JS.API.CONSUMER.MSG.NEXT.DELIVERY.deliver-webhook",
        "$JS.API.CONSUMER.MSG.NEXT.SIDING.turn-acme-r1",
        "$JS.API.CONSUMER.CREATE.SIDING.turn-acme-r1.siding.webhook.acme.r1",
        "$JS.API.CONSUMER.DELETE.SIDING.turn-acme-r1",
        "$JS.API.CONSUMER.PAUSE.SIDING.turn-acme-r1",
        "$JS.API.CONSUMER.LIST.SIDING",
        "turn.webhook.acme.r1",
        "$JS.API.STREAM.MSG.DELETE.SIDING",
        "$JS.API.DIRECT.GET.SIDING",
        "$JS.API.STREAM.PURGE.DELIVERY",
        "$JS.API.CONSUMER.MSG.NEXT.DEADLETTER.dead-letter-writer",
        "$JS.API.CONSUMER.MSG.NEXT.ATTEMPT.delivery-log-writer",
        "$JS.ACK.DELIVERY.deliver-webhook.1.1.1.1.0",
        "$JS.ACK.SIDING.turn-acme-r1.1.1.1.1.0",
    ),
    "control": ("$JS.API.STREAM.INFO.TELEMETRY", "$JS.API.STREAM.NAMES", "$JS.API.CONSUMER.INFO.DELIVERY.x"),
}

NOBODYS = ("tenant.acme.device.d1.t", "$MQTT.sess.x", "$SYS.REQ.SERVER.PING", "anything")
TOPICS = (
    "telemetry.acme.d1.t",
    "delivery.webhook.acme.r1",
    "siding.webhook.acme.r1",
    "deadletter.acme.r1",
    "attempt.acme.r1",
    "judgement.acme",
    "quarantine.acme",
    "export.acme.x",
)
OPERATORS = (
    "$JS.API.STREAM.CREATE.OTHER",
    "$JS.API.STREAM.UPDATE.TELEMETRY",
    "$JS.API.STREAM.DELETE.TELEMETRY",
    "$JS.API.STREAM.MSG.DELETE.TELEMETRY",
    "$JS.API.STREAM.MSG.GET.TELEMETRY",
    "$JS.API.CONSUMER.CREATE.TELEMETRY.spy.telemetry.x",
    "$JS.API.CONSUMER.DURABLE.CREATE.TELEMETRY.spy",
    "$JS.API.CONSUMER.DELETE.TELEMETRY.store",
    "$JS.API.CONSUMER.PAUSE.TELEMETRY.store",
    "$JS.API.STREAM.PURGE.SIDING",
    "$JS.API.STREAM.PURGE.DEADLETTER",
    "$JS.API.STREAM.SNAPSHOT.TELEMETRY",
    "$JS.API.SERVER.REMOVE",
)
WATCHED = tuple(
    f"{prefix}.>" for prefix in ("telemetry", "delivery", "siding", "deadletter", "quarantine", "attempt", "judgement")
)
MAY_NOT_PUBLISH = {
    "ingest": (
        *NOBODYS,
        *OPERATORS,
        *(subject for subject in TOPICS if not subject.startswith(("telemetry", "quarantine"))),
        "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.router",
        "$JS.ACK.TELEMETRY.router.1.1.1.1.0",
        "$JS.API.CONSUMER.MSG.NEXT.DELIVERY.deliver-webhook",
        "$JS.API.STREAM.PURGE.DELIVERY",
        "$JS.API.DIRECT.GET.DELIVERY",
        "_INBOX_delivery.x",
    ),
    "router": (
        *NOBODYS,
        *OPERATORS,
        *(subject for subject in TOPICS if not subject.startswith(("delivery", "judgement"))),
        "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.store",
        "$JS.ACK.TELEMETRY.store.1.1.1.1.0",
        "$JS.API.STREAM.PURGE.TELEMETRY",
        "_INBOX_ingest.x",
    ),
    "delivery": (
        *NOBODYS,
        *OPERATORS,
        *(s for s in TOPICS if not s.startswith(("siding", "deadletter", "attempt", "export"))),
        "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.store",
        "$JS.API.STREAM.PURGE.TELEMETRY",
        "$JS.API.CONSUMER.CREATE.DELIVERY.spy.delivery.x",
        "$JS.API.CONSUMER.DELETE.DELIVERY.deliver-webhook",
        "$JS.API.DIRECT.GET.TELEMETRY",
        "_INBOX_ingest.x",
    ),
    "control": (*NOBODYS, *TOPICS, "$JS.ACK.TELEMETRY.store.1.1.1.1.0", "_INBOX_ingest.x"),
}


async def refusals(bus: Bus, user: str, *, publish: tuple[str, ...] = (), subscribe: tuple[str, ...] = ()) -> set[str]:
    """Try each subject and return those the server refused: it says so before it answers the flush."""
    errors: list[str] = []

    async def on_error(exc: Exception) -> None:
        errors.append(str(exc))

    client = await nats.connect(  # pyright: ignore[reportUnknownMemberType] - bare generics in nats-py's signature
        bus.nats.url,
        user=user,
        password=bus.nats.password(user),
        error_cb=on_error,
        inbox_prefix=f"_INBOX_{user}",
    )
    try:
        for subject in publish:
            await client.publish(subject, b"")
        for subject in subscribe:
            await client.subscribe(subject)  # pyright: ignore[reportUnknownMemberType] - bare generics in nats-py
        await client.flush()  # nats-py's ping may overtake what was sent before it
        await client.flush()
    finally:
        await client.close()
    return {subject.lower() for error in errors for subject in re.findall(r'"([^"]+)"', error)}


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_may_publish_what_it_needs(bus: Bus, service: str) -> None:
    assert await refusals(bus, service, publish=MAY_PUBLISH[service]) == set()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_may_publish_nothing_else(bus: Bus, service: str) -> None:
    forbidden = MAY_NOT_PUBLISH[service]

    assert await refusals(bus, service, publish=forbidden) == {subject.lower() for subject in forbidden}


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_reads_its_own_inbox_only(bus: Bus, service: str) -> None:
    others = tuple(f"_INBOX_{other}.>" for other in SERVICES if other != service)
    forbidden = (*others, ">", "$JS.API.>", "tenant.>", "_INBOX.>", "export.>")

    assert await refusals(bus, service, subscribe=(f"_INBOX_{service}.x.y",)) == set()
    assert await refusals(bus, service, subscribe=forbidden) == {subject.lower() for subject in forbidden}


@pytest.mark.parametrize("service", [service for service in SERVICES if service != "control"])
async def test_a_service_hears_of_no_message_that_no_consumer_brings(bus: Bus, service: str) -> None:
    assert await refusals(bus, service, subscribe=WATCHED) == set(WATCHED)


async def test_the_operator_may_watch_what_passes(bus: Bus) -> None:
    assert await refusals(bus, "control", subscribe=WATCHED) == set()


async def test_each_service_is_listed_here() -> None:
    assert set(MAY_PUBLISH) == set(MAY_NOT_PUBLISH) == set(SERVICES)
