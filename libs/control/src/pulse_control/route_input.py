"""Checks what an operator says about a route, before any of it is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pulse_contracts.ids import TenantId
from pulse_contracts.kinds import InvalidConfig, KindDescriptor
from pulse_contracts.routes import InvalidPolicy, RoutePolicy, parse_policy
from pulse_control.context import Control
from pulse_control.errors import ControlRefused
from pulse_control.texts import check_name, check_values, is_uuid
from pulse_egress.errors import AddressRefused, HeaderRefused
from pulse_egress.guard import check_url
from pulse_egress.headers import check_header
from pulse_matching.expression import InvalidExpression, compile_expression
from pulse_matching.payload import InvalidPayloadFilter, compile_filter
from pulse_matching.topic import InvalidTopicFilter, check_topic_filter

_MAX_NAME_CHARS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteInput:
    """A route as the operator wants it."""

    name: str
    topic_filter: str
    kind: str
    config: Mapping[str, object]
    payload_filter: Mapping[str, object] | None = None
    expression: str | None = None
    policy: Mapping[str, object] | None = None


def check_route(control: Control, tenant: TenantId, wanted: RouteInput) -> KindDescriptor:
    """Return the kind's descriptor; raises `ControlRefused` naming the field."""
    check_name("name", wanted.name, _MAX_NAME_CHARS)
    if is_uuid(wanted.name):
        raise ControlRefused("name", "must not look like the id of a route: routes are found by either")
    descriptor = control.kinds.get(wanted.kind)
    if descriptor is None:
        raise ControlRefused("kind", f"{wanted.kind!r} is not installed; installed are {', '.join(control.kinds)}")
    for field in ("topic_filter", "payload_filter", "expression", "config", "policy"):
        check_values(field, getattr(wanted, field))
    _check_filters(wanted)
    check_policy(wanted.policy or {})
    try:
        descriptor.check_config(tenant, wanted.config)
    except InvalidConfig as exc:
        raise ControlRefused(f"config.{exc.field}", exc.reason) from exc
    _check_egress(control, wanted.config)
    return descriptor


def check_policy(spec: Mapping[str, object]) -> RoutePolicy:
    """Return the policy; raises `ControlRefused`."""
    try:
        return parse_policy(spec)
    except InvalidPolicy as exc:
        raise ControlRefused(f"policy.{exc.path}", exc.reason) from exc


def _check_filters(wanted: RouteInput) -> None:
    try:
        check_topic_filter(wanted.topic_filter)
        if wanted.payload_filter is not None:
            compile_filter(wanted.payload_filter)
        if wanted.expression is not None:
            compile_expression(wanted.expression)
    except InvalidTopicFilter as exc:
        raise ControlRefused("topic_filter", str(exc)) from exc
    except InvalidPayloadFilter as exc:
        raise ControlRefused(f"payload_filter.{exc.path}" if exc.path else "payload_filter", exc.reason) from exc
    except InvalidExpression as exc:
        raise ControlRefused("expression", str(exc)) from exc


def _check_egress(control: Control, config: Mapping[str, object]) -> None:
    """Refuse an address now that would be refused at every attempt; names are resolved at each attempt only."""
    url = config.get("url")
    try:
        if isinstance(url, str):
            check_url(url, control.egress)
    except AddressRefused as exc:
        raise ControlRefused("config.url", str(exc)) from exc
    for name in ("headers", "secret_headers"):
        fields = config.get(name)
        if isinstance(fields, Mapping):
            _check_headers(name, cast("Mapping[str, str]", fields))


def _check_headers(field: str, fields: Mapping[str, str]) -> None:
    try:
        for name, value in fields.items():
            check_header(name, value)
    except HeaderRefused as exc:
        raise ControlRefused(f"config.{field}", str(exc)) from exc
