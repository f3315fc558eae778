"""Looks again and again, and shows what two looks say together."""

from pulse_bus.errors import BusError
from pulse_cli.screen import Screen
from pulse_cli.top.lookout import Lookout
from pulse_cli.top.sight import Sight, compare
from pulse_cli.top.view import away, picture_of
from pulse_runtime.clock import Clock


async def see(lookout: Lookout, clock: Clock, seconds: float) -> Sight:
    """Return what two looks *seconds* apart say; raises `BusError`."""
    before = await lookout.look()
    await clock.sleep(seconds)
    return compare(before, await lookout.look())


async def watch(lookout: Lookout, screen: Screen, clock: Clock, seconds: float) -> None:
    """Show until cancelled. Raises `BusError` only at first: a server that was there may come back."""
    before = await lookout.look()
    while True:
        await clock.sleep(seconds)
        try:
            after = await lookout.look()
        except BusError as exc:
            screen.show(away(exc))
            continue
        screen.show(picture_of(compare(before, after)))
        before = after
