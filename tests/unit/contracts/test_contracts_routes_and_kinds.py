from collections.abc import Mapping
from typing import Any

import pytest

from pulse_contracts.ids import TenantId
from pulse_contracts.kinds import MASK, InvalidConfig, KindDescriptor, KindField, installed_kinds
from pulse_contracts.routes import InvalidPolicy, Rate, RoutePolicy, parse_policy
from pulse_contracts.topology import (
    ACK_WAIT_S,
    ATTEMPT,
    DUPLICATE_WINDOW_S,
    FIXED_CONSUMERS,
    STREAMS,
    consumers,
    deliver_consumer,
)

ACME = TenantId("acme")


def test_an_empty_policy_is_the_default() -> None:
    assert parse_policy({}) == RoutePolicy()


def test_a_policy_is_read_whole() -> None:
    policy = parse_policy(
        {
            "deadline_s": 5,
            "backoff": {"first_s": 0.5, "factor": 3, "cap_s": 60},
            "max_age_s": 3600,
            "max_attempts": 4,
            "in_flight": 2,
            "rate": {"per_s": 2.5, "burst": 4},
            "final_statuses": [404, 500],
        }
    )

    assert policy == RoutePolicy(
        deadline_s=5,
        backoff_first_s=0.5,
        backoff_factor=3,
        backoff_cap_s=60,
        max_age_s=3600,
        max_attempts=4,
        in_flight=2,
        rate=Rate(per_s=2.5, burst=4),
        final_statuses=frozenset({404, 500}),
    )


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"deadline": 5}, "deadline"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"deadline_s": "5"}, "deadline_s"),
        ({"deadline_s": True}, "deadline_s"),
        ({"deadline_s": float("nan")}, "deadline_s"),
        ({"max_age_s": float("inf")}, "max_age_s"),
        ({"max_attempts": None}, "max_attempts"),
        ({"max_attempts": 2.5}, "max_attempts"),
        ({"in_flight": 17}, "in_flight"),
        ({"backoff": 3}, "backoff"),
        ({"backoff": {"first": 3}}, "backoff.first"),
        ({"backoff": {"factor": 0.5}}, "backoff.factor"),
        ({"rate": 5}, "rate"),
        ({"rate": None}, "rate"),
        ({"rate": {}}, "rate.per_s"),
        ({"rate": {"burst": 5}}, "rate.per_s"),
        ({"rate": {"per_s": 0}}, "rate.per_s"),
        ({"rate": {"per_s": 0.009}}, "rate.per_s"),
        ({"rate": {"per_s": 10_001}}, "rate.per_s"),
        ({"rate": {"per_s": True}}, "rate.per_s"),
        ({"rate": {"per_s": 1, "burst": 0}}, "rate.burst"),
        ({"rate": {"per_s": 1, "burst": 1.5}}, "rate.burst"),
        ({"rate": {"per_s": 1, "burst": 10_001}}, "rate.burst"),
        ({"rate": {"per_s": 1, "per_min": 60}}, "rate.per_min"),
        ({"final_statuses": 404}, "final_statuses"),
        ({"final_statuses": [200]}, "final_statuses"),
        ({"final_statuses": ["404"]}, "final_statuses"),
        ({"final_statuses": [True]}, "final_statuses"),
    ],
)
def test_a_policy_that_cannot_be_obeyed_names_the_member(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidPolicy) as refusal:
        parse_policy(spec)

    assert refusal.value.path == path


@pytest.mark.parametrize(("per_s", "burst"), [(0.01, 1), (1, 1), (2.5, 3), (20, 20), (10_000, 10_000)])
def test_a_rate_without_a_burst_lets_a_seconds_worth_through_at_once(per_s: float, burst: int) -> None:
    assert parse_policy({"rate": {"per_s": per_s}}).rate == Rate(per_s=per_s, burst=burst)


def test_statuses_that_speak_of_now_are_not_final() -> None:
    assert not {408, 421, 423, 425, 429, 500, 503} & RoutePolicy().final_statuses
    assert {400, 401, 404, 410, 422} <= RoutePolicy().final_statuses


def _no_ftp(_tenant: TenantId, config: Mapping[str, object]) -> None:
    if str(config["url"]).startswith("ftp:"):
        raise InvalidConfig("url", "must not be ftp")


KIND = KindDescriptor(
    name="example",
    help="for tests",
    fields=(
        KindField(name="url", help="where", required=True),
        KindField(name="token", help="proof", secret=True),
    ),
    check=_no_ftp,
)


@pytest.mark.parametrize(
    ("config", "field"), [({}, "url"), ({"url": ""}, "url"), ({"url": "x", "uri": 1}, "uri"), ({"url": "ftp:"}, "url")]
)
def test_a_configuration_with_a_fault_names_the_field(config: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidConfig) as refusal:
        KIND.check_config(ACME, config)

    assert refusal.value.field == field


def test_secrets_of_a_configuration_are_masked() -> None:
    assert KIND.masked({"url": "x", "token": "s3cret"}) == {"url": "x", "token": MASK}
    assert KIND.masked({"url": "x"}, {"token": "s3cret", "signing": ["whsec_x"]}) == {"url": "x", "token": MASK}


def test_the_kinds_of_the_predecessor_are_installed() -> None:
    assert {"webhook", "mqtt_republish", "postgresql", "nats"} <= set(installed_kinds())


def test_every_stream_that_owes_messages_refuses_when_full() -> None:
    assert {stream.name for stream in STREAMS if stream.discard != "new"} == {ATTEMPT.name}


def test_every_stream_is_bounded_and_recognises_a_redelivery() -> None:
    assert all(stream.max_bytes > 0 and stream.max_consumers > 0 for stream in STREAMS)
    longest = max(spec.ack_wait_s for spec in consumers(["webhook"]))
    assert longest >= ACK_WAIT_S
    assert min(stream.duplicate_window_s for stream in STREAMS) == DUPLICATE_WINDOW_S >= 10 * longest


def test_each_kind_has_its_consumer_beside_the_fixed_ones() -> None:
    assert consumers(["webhook", "nats"]) == (*FIXED_CONSUMERS, deliver_consumer("webhook"), deliver_consumer("nats"))
    assert deliver_consumer("nats").filter_subject == "delivery.nats.>"
