"""Reads parcels off the bus."""

from dataclasses import replace
from datetime import UTC, datetime

from pulse_bus.incoming import Incoming
from pulse_contracts import headers
from pulse_contracts.envelope import InvalidEnvelope, decode_envelope
from pulse_contracts.subjects import parse_route_address
from pulse_contracts.tokens import InvalidToken
from pulse_delivery.domain.parcel import Parcel


def read_parcel(subject: str, data: bytes, fields: dict[str, str], stored_at_s: float) -> Parcel:
    """Return the parcel that a message of DELIVERY or SIDING is; raises `InvalidEnvelope`."""
    try:
        routed_at_ms = int(fields.get(headers.ROUTED_AT) or stored_at_s * 1000)
        return Parcel(
            address=parse_route_address(subject),
            revision=int(fields.get(headers.ROUTE_REVISION, 0)),
            routed_at=datetime.fromtimestamp(routed_at_ms / 1000, UTC),
            attempts=int(fields.get(headers.ATTEMPTS, 0)),
            answered=int(fields.get(headers.ANSWERED, 0)),
            envelope=decode_envelope(data),
            traceparent=fields.get(headers.TRACEPARENT),
        )
    except (InvalidToken, ValueError, OverflowError) as exc:
        raise InvalidEnvelope(str(exc)) from exc


def parcel_of(message: Incoming) -> Parcel:
    """Return the parcel of a message that a consumer delivered; raises `InvalidEnvelope`."""
    parcel = read_parcel(message.subject, message.data, message.headers, message.stored_at_s)
    return replace(parcel, traceparent=message.traceparent)
