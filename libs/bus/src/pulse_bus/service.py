"""The one connection of a service process, as its health and its metrics see it."""

from pulse_bus.address import BusAddress
from pulse_bus.connection import Connection, connect
from pulse_runtime.frame import Frame
from pulse_runtime.settings import ServiceSettings


async def open_bus(frame: Frame, settings: ServiceSettings) -> Connection:
    """Connect as the service that *frame* is of, until it stops; raises `BusUnavailable` if no server lets it in."""
    address = BusAddress(
        url=settings.nats_url,
        user=settings.nats_user,
        password=settings.nats_password.get_secret_value(),
        service=frame.service,
    )
    bus = await frame.enter("bus", connect(address, tracer=frame.tracer))
    frame.health.register("nats", lambda: None if bus.is_connected else "not connected to NATS")
    frame.metrics.nats_connected.set_function(lambda: float(bus.is_connected))
    return bus
