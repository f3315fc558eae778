"""What each user may do at NATS and what not, both ways, on the embedded server and on deploy/nats as it ships."""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import nats
import pytest
from deploy_nats import password, run_single

from pulse_bus.permissions import SERVICES
from pulse_testkit.nats import LiveNats

TRACED = "hops"
"""The subject of `msg_trace`: a sampled message is refused to who may not publish it."""
NOTICE = "turn.webhook.acme.r1"
MAY_PUBLISH = {
    "ingest": (
        "telemetry.acme.d1.up.status",
        "quarantine.acme",
        TRACED,
        "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.store",
        "$JS.API.STREAM.INFO.TELEMETRY",
        "$JS.API.CONSUMER.INFO.QUARANTINE.quarantine-writer",
        "$JS.ACK.domain.hash.QUARANTINE.quarantine-writer.1.1.1.1.0.token",
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
        TRACED,
        "$JS.API.CONSUMER.MSG.NEXT.ATTEMPT.judgement-writer",
        "$JS.API.CONSUMER.INFO.ATTEMPT.judgement-writer",
        "$JS.ACK.ATTEMPT.judgement-writer.1.1.1.1.0",
        "$JS.ACK.domain.hash.ATTEMPT.judgement-writer.1.1.1.1.0.token",
        "$JS.ACK.domain.hash.TELEMETRY.router.1.1.1.1.0.token",
        "$JS.API.DIRECT.GET.TELEMETRY",
        "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.router",
        "$JS.API.CONSUMER.INFO.TELEMETRY.router",
        "$JS.ACK.TELEMETRY.router.1.1.1.1.0",
    ),
    "delivery": (
        "siding.webhook.acme.r1",
        "deadletter.acme.r1",
        "attempt.acme.r1",
        "export.acme.alarms",
        TRACED,
        NOTICE,
        "$JS.API.CONSUMER.MSG.NEXT.DELIVERY.deliver-webhook",
        "$JS.API.CONSUMER.INFO.DELIVERY.deliver-webhook",
        "$JS.API.CONSUMER.INFO.DEADLETTER.dead-letter-writer",
        "$JS.API.CONSUMER.INFO.ATTEMPT.delivery-log-writer",
        "$JS.API.STREAM.INFO.SIDING",
        "$JS.API.STREAM.INFO.DELIVERY",
        "$JS.API.DIRECT.GET.DELIVERY",
        "$JS.API.DIRECT.GET.DEADLETTER",
        "$JS.ACK.DEADLETTER.dead-letter-writer.1.1.1.1.0",
        "$JS.ACK.ATTEMPT.delivery-log-writer.1.1.1.1.0",
        *(
            f"$JS.ACK.domain.hash.{consumer}.1.1.1.1.0.token"
            for consumer in (
                "DELIVERY.deliver-webhook",
                "SIDING.turn-acme-r1",
                "DEADLETTER.dead-letter-writer",
                "ATTEMPT.delivery-log-writer",
            )
        ),
        "$JS.API.CONSUMER.MSG.NEXT.SIDING.turn-acme-r1",
        "$JS.API.CONSUMER.CREATE.SIDING.turn-acme-r1.siding.webhook.acme.r1",
        "$JS.API.CONSUMER.DELETE.SIDING.turn-acme-r1",
        "$JS.API.CONSUMER.PAUSE.SIDING.turn-acme-r1",
        "$JS.API.CONSUMER.LIST.SIDING",
        "$JS.API.CONSUMER.NAMES.SIDING",
        "$JS.API.STREAM.MSG.DELETE.SIDING",
        "$JS.API.STREAM.PURGE.SIDING",
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
    NOTICE,
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
    "$JS.API.STREAM.PURGE.DEADLETTER",
    "$JS.API.STREAM.SNAPSHOT.TELEMETRY",
    "$JS.API.SERVER.REMOVE",
)
MESSAGES = tuple(
    f"{prefix}.>" for prefix in ("telemetry", "delivery", "siding", "deadletter", "quarantine", "attempt", "judgement")
)
"""What only a consumer may bring to a service."""
NOBODY_READS = (">", "$JS.API.>", "$JS.ACK.>", "$SYS.>", "tenant.>", "_INBOX.>", "export.>")
MAY_SUBSCRIBE = {
    "ingest": ("_INBOX_ingest.x.y",),
    "router": ("_INBOX_router.x.y", TRACED),
    "delivery": ("_INBOX_delivery.x.y", "turn.>"),
    "control": ("_INBOX_control.x.y", *MESSAGES, TRACED, "turn.>"),
}
MAY_NOT_SUBSCRIBE = {
    user: (
        *NOBODY_READS,
        *(f"_INBOX_{other}.>" for other in MAY_SUBSCRIBE if other != user),
        *(subject for subject in (*MESSAGES, TRACED, "turn.>") if subject not in allowed),
    )
    for user, allowed in MAY_SUBSCRIBE.items()
}
MAY_NOT_PUBLISH = {
    "ingest": (
        *NOBODYS,
        *OPERATORS,
        *(subject for subject in TOPICS if not subject.startswith(("telemetry", "quarantine"))),
        "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.router",
        "$JS.ACK.TELEMETRY.router.1.1.1.1.0",
        "$JS.API.CONSUMER.MSG.NEXT.DELIVERY.deliver-webhook",
        "$JS.API.STREAM.PURGE.DELIVERY",
        "$JS.API.STREAM.PURGE.SIDING",
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
        "$JS.API.STREAM.PURGE.SIDING",
        "_INBOX_ingest.x",
    ),
    "delivery": (
        *NOBODYS,
        *OPERATORS,
        *(s for s in TOPICS if not s.startswith(("siding", "deadletter", "attempt", "export", "turn"))),
        "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.store",
        "$JS.API.STREAM.PURGE.TELEMETRY",
        "$JS.API.CONSUMER.CREATE.DELIVERY.spy.delivery.x",
        "$JS.API.CONSUMER.DELETE.DELIVERY.deliver-webhook",
        "$JS.API.DIRECT.GET.TELEMETRY",
        "_INBOX_ingest.x",
    ),
    "control": (*NOBODYS, *TOPICS, TRACED, "$JS.ACK.TELEMETRY.store.1.1.1.1.0", "_INBOX_ingest.x"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A server, and how its users get in."""

    url: str
    passwords: dict[str, str]


@pytest.fixture(scope="module", params=["embedded", "shipped"])
async def server(
    request: pytest.FixtureRequest, nats_server: LiveNats, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Login]:
    if request.param == "embedded":
        yield Login(url=nats_server.url, passwords={user: nats_server.password(user) for user in SERVICES})
        return
    async with run_single(tmp_path_factory.mktemp("shipped")) as single:
        yield Login(url=single.client.url("nats"), passwords={user: password(user) for user in SERVICES})


async def refusals(at: Login, user: str, *, publish: tuple[str, ...] = (), subscribe: tuple[str, ...] = ()) -> set[str]:
    """Try each subject and return those the server refused: it says so before it answers the flush."""
    errors: list[str] = []

    async def on_error(exc: Exception) -> None:
        errors.append(str(exc))

    client = await nats.connect(  # pyright: ignore[reportUnknownMemberType] - bare generics in nats-py's signature
        at.url, user=user, password=at.passwords[user], error_cb=on_error, inbox_prefix=f"_INBOX_{user}"
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


def lower(subjects: tuple[str, ...]) -> set[str]:
    """Return them as the server names them in a refusal."""
    return {subject.lower() for subject in subjects}


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_may_publish_what_it_needs(server: Login, user: str) -> None:
    assert await refusals(server, user, publish=MAY_PUBLISH[user]) == set()


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_may_publish_nothing_else(server: Login, user: str) -> None:
    forbidden = MAY_NOT_PUBLISH[user]
    assert await refusals(server, user, publish=forbidden) == lower(forbidden)


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_may_hear_what_it_needs(server: Login, user: str) -> None:
    assert await refusals(server, user, subscribe=MAY_SUBSCRIBE[user]) == set()


@pytest.mark.parametrize("user", SERVICES)
async def test_a_user_may_hear_nothing_else(server: Login, user: str) -> None:
    forbidden = MAY_NOT_SUBSCRIBE[user]
    assert await refusals(server, user, subscribe=forbidden) == lower(forbidden)


@pytest.mark.parametrize("user", SERVICES)
def test_every_permission_is_tried(user: str) -> None:
    """So that a permission added to the code needs a line here, and with it a thought of who must not have it."""
    allowed = SERVICES[user]
    assert [pattern for pattern in allowed.publish if not any(covers(pattern, one) for one in MAY_PUBLISH[user])] == []
    tried = MAY_SUBSCRIBE[user]
    assert [pattern for pattern in allowed.subscribe if not any(covers(pattern, one) for one in tried)] == []


def test_each_user_is_listed_here() -> None:
    assert set(MAY_PUBLISH) == set(MAY_NOT_PUBLISH) == set(MAY_SUBSCRIBE) == set(SERVICES)


def covers(pattern: str, subject: str) -> bool:
    """Whether a subject with wildcards selects another one."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        tokens, rest = tokens[: len(wanted)], tokens[len(wanted) :]
        if not rest:
            return False
    return len(wanted) == len(tokens) and all(w in {"*", t} for w, t in zip(wanted, tokens, strict=True))
