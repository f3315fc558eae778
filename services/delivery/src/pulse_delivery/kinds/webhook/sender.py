"""Sends webhooks: one signed POST, judged by its status."""

import email.utils
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, cast

from pulse_contracts.outcome import Delivered, Failed, Outcome, Reach, Rejected
from pulse_contracts.routes import Route
from pulse_delivery.domain.parcel import Parcel
from pulse_delivery.domain.ports import Sender
from pulse_delivery.kinds.context import SenderContext
from pulse_delivery.kinds.webhook.signing import signature_256, signature_headers
from pulse_egress.engine import HttpAnswer, HttpEngine, HttpLimits
from pulse_egress.errors import (
    AddressRefused,
    ConnectFailed,
    ConnectFailure,
    EgressError,
    EgressTimeout,
    HeaderRefused,
    Phase,
)
from pulse_egress.guard import check_url
from pulse_egress.policy import AddressPolicy
from pulse_runtime.clock import Clock

_USER_AGENT: Final = "pulse"
_OK: Final = range(200, 300)


class WebhookSender:
    """Sends through one engine, which dials only what the policy permits."""

    def __init__(self, engine: HttpEngine, policy: AddressPolicy, clock: Clock) -> None:
        self._engine = engine
        self._policy = policy
        self._clock = clock

    async def attempt(self, parcel: Parcel, route: Route, secrets: Mapping[str, object]) -> Outcome:
        body = parcel.envelope.public_body()
        try:
            url = check_url(str(route.config["url"]), self._policy)
            answer = await self._engine.post(
                url,
                body=body,
                headers=self._headers(parcel, route, secrets, body),
                deadline_s=route.policy.deadline_s,
                owner=route.tenant_id,
            )
        except AddressRefused as exc:
            return Rejected(reason="address_refused", error=str(exc))
        except HeaderRefused as exc:
            return Rejected(reason="config_invalid", error=str(exc))
        except EgressError as exc:
            return Failed(error=str(exc), answered=False, reach=_reach(exc))
        return self._judge(answer, route)

    def _headers(self, parcel: Parcel, route: Route, secrets: Mapping[str, object], body: bytes) -> dict[str, str]:
        keys = cast("list[str]", secrets.get("signing", []))
        timestamp = int(self._clock.now().timestamp())
        custom = {
            **cast("dict[str, str]", route.config.get("headers") or {}),
            **cast("dict[str, str]", secrets.get("secret_headers") or {}),
        }
        fields = {
            # In one case, so that a customer's Content-Type cannot stand beside ours.
            **{name.lower(): value for name, value in custom.items()},
            "content-type": "application/json",
            "user-agent": _USER_AGENT,
            **signature_headers(keys, parcel.delivery_id, timestamp, body),
        }
        if route.config.get("signature_256") and keys:
            fields["x-signature-256"] = signature_256(keys[0], body)
        if parcel.traceparent:
            fields["traceparent"] = parcel.traceparent
        return fields

    def _judge(self, answer: HttpAnswer, route: Route) -> Outcome:
        status = answer.status
        if status in _OK:
            return Delivered(status=status)
        if status in route.policy.final_statuses:
            return Rejected(reason=f"status_{status}", error=f"answered {status}", status=status)
        pause = retry_after_s(answer.retry_after, self._clock.now())
        return Failed(
            error=f"answered {status}", answered=True, status=status, retry_after_s=pause, reach=Reach.DESTINATION
        )


def _reach(error: EgressError) -> Reach:
    match error:
        case EgressTimeout(phase=Phase.QUEUE):
            return Reach.UNKNOWN
        case EgressTimeout(phase=Phase.DNS | Phase.CONNECT):
            return Reach.NOWHERE
        case ConnectFailed(reason=ConnectFailure.DNS | ConnectFailure.UNREACHABLE | ConnectFailure.LOCAL):
            return Reach.NOWHERE
        case _:
            return Reach.DESTINATION


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Read Retry-After (RFC 9110 §10.2.3): seconds or a date; None for anything else."""
    if value is None:
        return None
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())


@asynccontextmanager
async def open_sender(context: SenderContext) -> AsyncGenerator[Sender, None]:
    """Yield the sender of webhooks."""
    async with HttpEngine(context.egress, limits=HttpLimits(dns_kept_s=context.names_kept_s)) as engine:
        yield WebhookSender(engine, context.egress, context.clock)
