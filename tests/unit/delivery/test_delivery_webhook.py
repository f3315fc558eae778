import asyncio
import socket
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from delivery_builders import NOW, parcel, route
from hypothesis import given
from hypothesis import strategies as st

from pulse_contracts.outcome import Delivered, Failed, Outcome, Reach, Rejected
from pulse_contracts.routes import RoutePolicy
from pulse_delivery.kinds.webhook.sender import WebhookSender, retry_after_s
from pulse_egress.engine import HttpAnswer, HttpEngine
from pulse_egress.names import MOST_OF_ONE_OWNER
from pulse_egress.policy import PUBLIC_ONLY
from pulse_testkit.clock import ManualClock

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("00120", 120.0),
        ("999999999999999999999999", 999_999_999.0),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30.0),
        (format_datetime(NOW - timedelta(seconds=30), usegmt=True), 0.0),
        ("Mon, 05 Jan 2026 13:00:30 +0100", 30.0),
        ("Mon, 05 Jan 2026 12:00:30", 30.0),
        ("Monday, 05-Jan-26 12:00:30 GMT", 30.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, expected: float) -> None:
    assert retry_after_s(value, NOW) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "-1",
        "1.5",
        "1e3",
        "soon",
        "²",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "Mon, 32 Jan 2026 12:00:00 GMT",
        "Mon, 05 Jan 99999999999999999999 12:00:00 GMT",
        "Mon, 05 Jan 2026 12:00:00 +99999999999999999999",
        "Mon, 05 Jan 2026 99:00:00 GMT",
    ],
)
def test_any_other_retry_after_is_as_if_there_were_none(value: str | None) -> None:
    assert retry_after_s(value, NOW) is None


@given(
    st.text(max_size=60)
    | st.text("0123456789 ,:+-JanFebMonGMT", max_size=60)
    | st.datetimes(timezones=st.timezones()).map(str)
    | st.tuples(st.integers(), st.integers(), st.integers()).map(lambda n: f"Mon, {n[0]} Jan {n[1]} 12:00:00 {n[2]:+}")
)
def test_no_retry_after_of_a_hostile_receiver_raises(value: str) -> None:
    pause = retry_after_s(value, NOW)
    assert pause is None or pause >= 0


@pytest.fixture(name="sender")
async def _sender(manual_clock: ManualClock) -> WebhookSender:
    return WebhookSender(HttpEngine(PUBLIC_ONLY), PUBLIC_ONLY, manual_clock)


def judged(sender: WebhookSender, status: int, policy: RoutePolicy | None = None) -> Outcome:
    answer = HttpAnswer(status=status, body=b"", is_truncated=False, retry_after=None, duration_s=0.1)
    return sender._judge(answer, route({}, policy))  # pyright: ignore[reportPrivateUsage] - no network here


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(sender: WebhookSender, status: int) -> None:
    assert judged(sender, status) == Delivered(status=status)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422, 499])
def test_an_answer_that_cannot_change_is_final(sender: WebhookSender, status: int) -> None:
    expected = Rejected(reason=f"status_{status}", error=f"answered {status}", status=status)
    assert judged(sender, status) == expected


@pytest.mark.parametrize("status", [301, 302, 307, 308, 408, 421, 423, 425, 429, 500, 502, 503, 504])
def test_an_answer_that_speaks_of_now_is_tried_again(sender: WebhookSender, status: int) -> None:
    outcome = judged(sender, status)
    assert isinstance(outcome, Failed)
    assert outcome.answered


def test_a_route_may_say_which_statuses_are_final(sender: WebhookSender) -> None:
    policy = RoutePolicy(final_statuses=frozenset({503}))
    assert isinstance(judged(sender, 503, policy), Rejected)
    assert isinstance(judged(sender, 404, policy), Failed)


def headers_of(
    sender: WebhookSender, config: dict[str, object], secrets: dict[str, object], traceparent: str | None = None
) -> dict[str, str]:
    made = parcel(traceparent=traceparent)
    return sender._headers(made, route(config), secrets, b"body")  # pyright: ignore[reportPrivateUsage] - no network here


def test_a_customers_headers_are_sent_and_cannot_replace_ours_in_any_case(sender: WebhookSender) -> None:
    config: dict[str, object] = {"headers": {"X-Site": "a", "Content-Type": "text/plain", "USER-AGENT": "me"}}
    fields = headers_of(sender, config, {"secret_headers": {"Authorization": "Bearer x"}, "signing": [SECRET]})
    assert (fields["x-site"], fields["authorization"]) == ("a", "Bearer x")
    assert (fields["content-type"], fields["user-agent"]) == ("application/json", "pulse")
    assert len(fields) == len({name.lower() for name in fields})


def test_the_webhook_id_names_message_and_route(sender: WebhookSender) -> None:
    fields = headers_of(sender, {}, {"signing": [SECRET]})
    assert fields["webhook-id"] == "m-1:r-1"
    assert fields["webhook-timestamp"] == str(int(NOW.timestamp()))


@pytest.mark.parametrize(
    ("config", "expected"), [({}, False), ({"signature_256": False}, False), ({"signature_256": True}, True)]
)
def test_the_predecessors_signature_is_an_option(
    sender: WebhookSender, config: dict[str, object], *, expected: bool
) -> None:
    assert ("x-signature-256" in headers_of(sender, config, {"signing": [SECRET]})) == expected


def test_the_request_carries_the_context_of_its_attempt(sender: WebhookSender) -> None:
    attempt = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    assert headers_of(sender, {}, {}, attempt)["traceparent"] == attempt


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)), st.integers(-14, 14))  # noqa: DTZ001 - the zone is added
def test_a_date_means_the_same_moment_in_every_zone(moment: datetime, hours: int) -> None:
    whole = moment.replace(microsecond=0, tzinfo=timezone(timedelta(hours=hours)))
    assert retry_after_s(format_datetime(whole), NOW) == max(0.0, (whole - NOW).total_seconds())


@pytest.mark.parametrize(
    ("error", "reach"),
    [
        pytest.param(socket.EAI_AGAIN, Reach.NOWHERE, id="no name server answers: the trouble is on this side"),
        pytest.param(socket.EAI_NONAME, Reach.DESTINATION, id="there is no such name: the trouble is theirs"),
    ],
)
async def test_a_failing_name_service_is_told_from_an_unknown_name(
    manual_clock: ManualClock, error: int, reach: Reach
) -> None:
    async def lookup(host: str) -> Sequence[str]:
        raise socket.gaierror(error, host)

    async with HttpEngine(PUBLIC_ONLY, lookup=lookup) as engine:
        sender = WebhookSender(engine, PUBLIC_ONLY, manual_clock)
        outcome = await sender.attempt(parcel(), route({"url": "https://hooks.example.com/"}), {})

    assert isinstance(outcome, Failed)
    assert (outcome.answered, outcome.reach) == (False, reach)


async def test_only_a_name_service_that_was_asked_is_out_of_reach(manual_clock: ManualClock) -> None:
    async def lookup(host: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return (host,)

    policy = RoutePolicy(deadline_s=0.2)
    routes = [route({"url": f"https://n{n}.example.com/"}, policy) for n in range(MOST_OF_ONE_OWNER + 1)]
    async with HttpEngine(PUBLIC_ONLY, lookup=lookup) as engine:
        sender = WebhookSender(engine, PUBLIC_ONLY, manual_clock)
        outcomes = await asyncio.gather(*(sender.attempt(parcel(), each, {}) for each in routes))

    reached = [outcome.reach for outcome in outcomes if isinstance(outcome, Failed)]
    assert reached == [*[Reach.NOWHERE] * MOST_OF_ONE_OWNER, Reach.UNKNOWN]
