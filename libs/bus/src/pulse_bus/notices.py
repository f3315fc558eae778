"""What the replicas of delivery tell each other about turns.

Without it a route with traffic on two replicas would never leave the siding: what the one moves there keeps it troubled
for the other. Notices are plain NATS messages in no stream; one that is lost costs a second or two, never a message.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from nats.aio.msg import Msg

from pulse_bus.connection import Connection
from pulse_bus.errors import BusUnavailable
from pulse_contracts import subjects
from pulse_contracts.subjects import RouteAddress, parse_route_address
from pulse_contracts.tokens import InvalidToken
from pulse_contracts.turns import AskedRest, Notice
from pulse_runtime.logging import get_logger

_log = get_logger(__name__)
_MOST_UNSENT: Final = 4096


class TurnNotices:
    """Sends notices, and hands those of the other replicas to *on_notice*, which must not block."""

    def __init__(self, connection: Connection, owner: str) -> None:
        self._connection = connection
        self._owner = owner
        self._unsent: deque[tuple[RouteAddress, Notice | AskedRest]] = deque(maxlen=_MOST_UNSENT)
        self._has_unsent = asyncio.Event()

    def tell(self, address: RouteAddress, notice: Notice | AskedRest) -> None:
        """Tell the others soon. Promises nothing: the oldest unsent notices give way to new ones."""
        self._unsent.append((address, notice))
        self._has_unsent.set()

    async def run(self, on_notice: Callable[[RouteAddress, Notice | AskedRest], None]) -> None:
        """Send and listen until cancelled."""
        await self._connection.subscribe("turn.*.*.*", lambda message: self._read(message, on_notice))
        while True:
            await self._has_unsent.wait()
            self._has_unsent.clear()
            while self._unsent:
                await self._send(*self._unsent.popleft())

    async def _send(self, address: RouteAddress, notice: Notice | AskedRest) -> None:
        subject = subjects.turn(address.kind, address.tenant, address.route)
        try:
            await self._connection.publish(subject, json.dumps({"owner": self._owner, **_body(notice)}).encode())
        except BusUnavailable as exc:
            _log.debug("notice_unsent", error=str(exc))

    def _read(self, message: Msg, on_notice: Callable[[RouteAddress, Notice | AskedRest], None]) -> None:
        try:
            address = parse_route_address(message.subject)
            body = json.loads(message.data)
            owner, notice = str(body["owner"]), _notice(body)
        except (InvalidToken, ValueError, KeyError, TypeError) as exc:
            _log.warning("notice_unreadable", subject=message.subject, error=str(exc))
            return
        if owner != self._owner:
            on_notice(address, notice)


def _body(notice: Notice | AskedRest) -> dict[str, str]:
    match notice:
        case AskedRest(until=until):
            return {"rest_until": until.isoformat()}
        case Notice():
            return {"notice": notice}


def _notice(body: dict[str, Any]) -> Notice | AskedRest:
    if "rest_until" in body:
        until = datetime.fromisoformat(body["rest_until"])
        if until.tzinfo is None:
            raise ValueError("a moment without its zone")
        return AskedRest(until=until)
    return Notice(body["notice"])
