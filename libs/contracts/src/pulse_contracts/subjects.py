"""The subject grammar (ADR 0002): where each kind of message lives on the bus."""

from dataclasses import dataclass
from typing import Final

from pulse_contracts.ids import DeviceId, RouteId, TenantId
from pulse_contracts.tokens import InvalidToken, decode_token, encode_token


def telemetry(tenant: TenantId, device: DeviceId, type_levels: str) -> str:
    """``telemetry.{tenant}.{device}.{type...}``, one token a level of the type."""
    levels = ".".join(encode_token(level) for level in type_levels.split("/"))
    return f"telemetry.{encode_token(tenant)}.{encode_token(device)}.{levels}"


def delivery(kind: str, tenant: TenantId, route: RouteId) -> str:
    return f"delivery.{encode_token(kind)}.{encode_token(tenant)}.{encode_token(route)}"


def siding(kind: str, tenant: TenantId, route: RouteId) -> str:
    return f"siding.{encode_token(kind)}.{encode_token(tenant)}.{encode_token(route)}"


def turn(kind: str, tenant: TenantId, route: RouteId) -> str:
    """Where the replicas of delivery tell each other about the turn of a route; in no stream."""
    return f"turn.{encode_token(kind)}.{encode_token(tenant)}.{encode_token(route)}"


ALIVE: Final = "turn.alive"
"""Where the replicas of delivery tell each other that they live; in no stream."""


LEAVING: Final = "turn.leaving"
"""Where one of them says that it serves no turn any more."""


def dead_letter(tenant: TenantId, route: RouteId) -> str:
    return f"deadletter.{encode_token(tenant)}.{encode_token(route)}"


def quarantine(tenant: TenantId) -> str:
    return f"quarantine.{encode_token(tenant)}"


def attempt(tenant: TenantId, route: RouteId) -> str:
    return f"attempt.{encode_token(tenant)}.{encode_token(route)}"


def judgement(tenant: TenantId) -> str:
    return f"judgement.{encode_token(tenant)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteAddress:
    """Whose route a delivery or siding subject names."""

    kind: str
    tenant: TenantId
    route: RouteId

    def __hash__(self) -> int:
        # A route has one address, and its string keeps its hash: thousands of them are looked up each second.
        return hash(self.route)


def parse_route_address(subject: str) -> RouteAddress:
    """Read a ``delivery.``, ``siding.`` or ``turn.`` subject back; raises `InvalidToken` for any other."""
    tokens = subject.split(".")
    if len(tokens) != 4 or tokens[0] not in {"delivery", "siding", "turn"}:  # noqa: PLR2004 - prefix, kind, tenant, route
        raise InvalidToken(subject)
    return RouteAddress(
        kind=decode_token(tokens[1]), tenant=TenantId(decode_token(tokens[2])), route=RouteId(decode_token(tokens[3]))
    )


def parse_dead_letter(subject: str) -> tuple[TenantId, RouteId]:
    """Read a ``deadletter.`` subject back; raises `InvalidToken` for any other."""
    tokens = subject.split(".")
    if len(tokens) != 3 or tokens[0] != "deadletter":  # noqa: PLR2004 - prefix, tenant, route
        raise InvalidToken(subject)
    return TenantId(decode_token(tokens[1])), RouteId(decode_token(tokens[2]))


def tenant_token(subject: str) -> str:
    """Return the token of the tenant in any of our subjects, for splitting batches by tenant."""
    tokens = subject.split(".")
    return tokens[2] if tokens[0] in {"delivery", "siding"} else tokens[1]
