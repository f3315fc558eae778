from collections.abc import Mapping
from typing import Any, cast

import pytest

from pulse_contracts.ids import TenantId
from pulse_contracts.routes import FINAL_STATUSES, RoutePolicy
from pulse_control.context import Control
from pulse_control.errors import ControlRefused
from pulse_control.route_input import RouteInput, check_policy, check_route
from pulse_control.routes import apply_changes
from pulse_egress.policy import AddressPolicy
from pulse_storage.pool import Pool
from pulse_storage.sealing import KeyRing

ACME = TenantId("acme")
WEBHOOK = {"url": "https://example.com/hook"}
CANARY = "canary-4711"


def control(*allowed: str) -> Control:
    # What is checked here never reaches the database.
    return Control(pool=cast("Pool", None), keys=KeyRing({"k": bytes(32)}), egress=AddressPolicy.from_ranges(allowed))


def wanted(**changes: Any) -> RouteInput:
    fields: dict[str, Any] = {"name": "r", "topic_filter": "#", "kind": "webhook", "config": WEBHOOK, **changes}
    return RouteInput(**fields)


def refused(given: RouteInput) -> ControlRefused:
    with pytest.raises(ControlRefused) as caught:
        check_route(control(), ACME, given)
    return caught.value


@pytest.mark.parametrize(
    "given",
    [
        wanted(),
        wanted(name="n" * 128),
        wanted(name="Überwachung / 1"),
        wanted(topic_filter="tenant/acme/device/+/weather/#"),
        wanted(payload_filter={}),
        wanted(payload_filter={"t": {"$gt": 1}}, expression="payload.t < 5"),
        wanted(policy={"max_age_s": 60, "backoff": {"first_s": 0.5}}),
        wanted(kind="postgresql", config={}),
        wanted(kind="nats", config={"subject": "orders.new"}),
        wanted(kind="mqtt_republish", config={"topic": "tenant/acme/copy/{type}"}),
        wanted(config={**WEBHOOK, "headers": {"X-Site": "a"}, "secret_headers": {"Authorization": "Bearer x"}}),
    ],
)
def test_a_route_that_can_work_is_taken(given: RouteInput) -> None:
    assert check_route(control(), ACME, given).name == given.kind


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "n" * 129}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\x1b[31m"}, "name"),
        ({"name": "01900000-0000-7000-8000-000000000000"}, "name"),
        ({"name": "019000000000700080000000000000AA"}, "name"),
        ({"name": "\udcff"}, "name"),
        ({"kind": "carrier-pigeon"}, "kind"),
        ({"kind": ""}, "kind"),
        ({"topic_filter": ""}, "topic_filter"),
        ({"topic_filter": "a/#/b"}, "topic_filter"),
        ({"topic_filter": "a+"}, "topic_filter"),
        ({"topic_filter": "$share/g/#"}, "topic_filter"),
        ({"payload_filter": {"t": {"$nope": 1}}}, "payload_filter.t.$nope"),
        ({"payload_filter": {"$and": []}}, "payload_filter.$and"),
        ({"expression": "payload.t >"}, "expression"),
        ({"expression": "'text'"}, "expression"),
        ({"expression": ""}, "expression"),
        ({"topic_filter": "a\0"}, "topic_filter"),
        ({"topic_filter": "\ud800"}, "topic_filter"),
        ({"payload_filter": {"a": "\ud800"}}, "payload_filter.a"),
        ({"payload_filter": {"a": {"$in": ["b", "\0"]}}}, "payload_filter.a.$in[1]"),
        ({"payload_filter": {"\0": 1}}, "payload_filter"),
        ({"payload_filter": {"a": float("nan")}}, "payload_filter.a"),
        ({"payload_filter": {"a": {"$gt": float("inf")}}}, "payload_filter.a.$gt"),
        ({"expression": "payload.a == '\ud800'"}, "expression"),
        ({"expression": "payload.a == '\0'"}, "expression"),
        ({"config": {**WEBHOOK, "headers": {"a": "\udcff"}}}, "config.headers.a"),
        ({"config": {**WEBHOOK, "secret_headers": {"a": "\0"}}}, "config.secret_headers.a"),
        ({"policy": {"\ud800": 5}}, "policy"),
        ({"policy": {"backoff": {"first_s": 3601}}}, "policy.backoff.first_s"),
        ({"policy": {"backoff": {"cap_s": 3601}}}, "policy.backoff.cap_s"),
        ({"policy": {"max_ages_s": 5}}, "policy.max_ages_s"),
        ({"policy": {"max_age_s": "5"}}, "policy.max_age_s"),
        ({"policy": {"backoff": {"first": 1}}}, "policy.backoff.first"),
        ({"config": {}}, "config.url"),
        ({"config": {**WEBHOOK, "retries": 3}}, "config.retries"),
        ({"config": {"url": "ftp://example.com"}}, "config.url"),
        ({"config": {"url": "https://user:pw@example.com"}}, "config.url"),
        ({"config": {"url": "http://127.0.0.1/hook"}}, "config.url"),
        ({"config": {"url": "http://[::1]/hook"}}, "config.url"),
        ({"config": {"url": "http://169.254.169.254/latest"}}, "config.url"),
        ({"config": {"url": "http://2130706433/"}}, "config.url"),
        ({"config": {**WEBHOOK, "headers": {"Host": "a"}}}, "config.headers"),
        ({"config": {**WEBHOOK, "headers": {"webhook-signature": "v1,x"}}}, "config.headers"),
        ({"config": {**WEBHOOK, "headers": {"a": "b\r\nc: d"}}}, "config.headers"),
        ({"config": {**WEBHOOK, "secret_headers": {"Transfer-Encoding": "x"}}}, "config.secret_headers"),
        ({"config": {**WEBHOOK, "secret_headers": {"a b": "x"}}}, "config.secret_headers"),
        ({"kind": "nats", "config": {"subject": "a.>"}}, "config.subject"),
        ({"kind": "mqtt_republish", "config": {"topic": "tenant/globex/x"}}, "config.topic"),
        ({"kind": "mqtt_republish", "config": {"topic": "tenant/acme/device/x/y"}}, "config.topic"),
        ({"kind": "postgresql", "config": {"table": "x"}}, "config.table"),
    ],
)
def test_a_refusal_names_its_field(changes: dict[str, Any], field: str) -> None:
    refusal = refused(wanted(**changes))
    assert refusal.field == field
    assert refusal.reason
    assert str(refusal) == f"{field}: {refusal.reason}"


def test_a_refusal_quotes_no_secret() -> None:
    config = {**WEBHOOK, "secret_headers": {"Authorization": f"Bearer {CANARY}\n"}}
    assert CANARY not in str(refused(wanted(config=config)))


def test_an_operator_may_allow_ranges_that_are_not_public() -> None:
    given = wanted(config={"url": "http://127.0.0.1:9000/hook"})
    check_route(control("127.0.0.0/8"), ACME, given)
    refused(given)


def test_what_is_left_out_of_a_policy_has_the_defaults() -> None:
    assert check_policy({}) == RoutePolicy()
    assert check_policy({"max_attempts": 3}) == RoutePolicy(max_attempts=3)
    assert check_policy({"final_statuses": [503]}).final_statuses == frozenset({503})
    assert check_policy({"final_statuses": []}).final_statuses == frozenset()
    assert FINAL_STATUSES.isdisjoint({408, 429, 500, 503})


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"deadline_s": 0}, "deadline_s"),
        ({"deadline_s": 61}, "deadline_s"),
        ({"deadline_s": None}, "deadline_s"),
        ({"deadline_s": True}, "deadline_s"),
        ({"deadline_s": float("nan")}, "deadline_s"),
        ({"deadline_s": float("inf")}, "deadline_s"),
        ({"max_age_s": 0}, "max_age_s"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"in_flight": 17}, "in_flight"),
        ({"in_flight": 0}, "in_flight"),
        ({"backoff": 5}, "backoff"),
        ({"backoff": {"factor": 0.5}}, "backoff.factor"),
        ({"backoff": {"cap_s": -1}}, "backoff.cap_s"),
        ({"final_statuses": 500}, "final_statuses"),
        ({"final_statuses": [200]}, "final_statuses"),
        ({"final_statuses": ["404"]}, "final_statuses"),
        ({"final_statuses": [404.5]}, "final_statuses"),
    ],
)
def test_a_policy_that_cannot_be_obeyed_is_refused(policy: Mapping[str, object], field: str) -> None:
    with pytest.raises(ControlRefused) as caught:
        check_policy(policy)
    assert caught.value.field == f"policy.{field}"


SECRET_HEADERS = {"Authorization": "Bearer x"}
PRESENT = wanted(config={**WEBHOOK, "secret_headers": SECRET_HEADERS}, payload_filter={"t": 1}, policy={"in_flight": 2})


def test_a_change_of_one_configured_field_keeps_the_others_secrets_included() -> None:
    after = apply_changes(PRESENT, {"config": {"url": "https://example.org"}})
    assert after.config == {"url": "https://example.org", "secret_headers": SECRET_HEADERS}


def test_what_is_not_changed_stays() -> None:
    after = apply_changes(PRESENT, {"name": "new"})
    assert after == wanted(
        name="new", config=PRESENT.config, payload_filter=PRESENT.payload_filter, policy=PRESENT.policy
    )


def test_filters_are_replaced_whole_or_removed() -> None:
    assert apply_changes(PRESENT, {"payload_filter": {"u": 2}}).payload_filter == {"u": 2}
    assert apply_changes(PRESENT, {"payload_filter": None}).payload_filter is None


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ({"in_flight": 2}, {"max_attempts": 3}, {"in_flight": 2, "max_attempts": 3}),
        ({"in_flight": 2}, {"in_flight": None}, {}),
        ({"backoff": {"first_s": 5}}, {"backoff": {"cap_s": 60}}, {"backoff": {"first_s": 5, "cap_s": 60}}),
        ({"backoff": {"first_s": 5, "cap_s": 60}}, {"backoff": {"cap_s": None}}, {"backoff": {"first_s": 5}}),
        ({"final_statuses": [404, 410]}, {"final_statuses": [404]}, {"final_statuses": [404]}),
        (None, {"backoff": {"cap_s": 60}, "rate": None}, {"backoff": {"cap_s": 60}}),
    ],
)
def test_of_a_policy_what_is_not_named_stays_and_null_removes(before: Any, patch: Any, after: Any) -> None:
    assert apply_changes(wanted(policy=before), {"policy": patch}).policy == after


def test_of_a_configuration_null_removes_a_field() -> None:
    assert apply_changes(PRESENT, {"config": {"secret_headers": None}}).config == WEBHOOK
    changed = apply_changes(PRESENT, {"config": {"secret_headers": {"Authorization": None, "X-Key": "k"}}})
    assert changed.config == {**WEBHOOK, "secret_headers": {"X-Key": "k"}}


def test_the_longest_pause_of_a_policy_is_one_hour() -> None:
    policy = check_policy({"backoff": {"first_s": 3600, "cap_s": 3600}})
    assert (policy.backoff_first_s, policy.backoff_cap_s) == (3600, 3600)
