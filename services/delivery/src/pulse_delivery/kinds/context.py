"""What a process offers the senders of all kinds."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from pulse_bus.connection import Connection
from pulse_delivery.domain.ports import Sender
from pulse_egress.policy import AddressPolicy
from pulse_runtime.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttTarget:
    """The broker that republished messages go to."""

    host: str
    port: int
    user: str | None
    password: str | None
    client_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderContext:
    """Handed to every kind's ``open_sender``; a kind takes from it what it needs."""

    clock: Clock
    egress: AddressPolicy
    names_kept_s: float
    """So long the last known addresses of names serve while no name server answers."""
    bus: Connection
    mqtt: MqttTarget | None


OpenSender = Callable[[SenderContext], AbstractAsyncContextManager[Sender]]
"""What the entry point group ``pulse.senders`` names."""
