"""One attempt at one webhook, shared by both baselines."""

from collections.abc import Mapping
from typing import Final

import aiohttp

from blast_radius.baselines.journal import Journal
from pulse_contracts.envelope import Envelope

_TIMEOUT_S: Final = 10.0
_FAILED_FROM: Final = 300
_FIELDS: Final = {"content-type": "application/json"}


class Webhooks:
    """Posts over one client that keeps its connections; what fails is written down as a dead letter."""

    def __init__(self, session: aiohttp.ClientSession, urls: Mapping[str, str], dead_letters: Journal) -> None:
        self._session = session
        self._urls = urls
        """By topic: each baseline's routes are one a device."""
        self._dead_letters = dead_letters

    async def deliver(self, envelope: Envelope) -> None:
        """Return when the message is delivered or a dead letter."""
        if not await self._is_delivered(self._urls[envelope.topic], envelope.public_body()):
            await self._dead_letters.append(envelope.message_id.encode())

    async def _is_delivered(self, url: str, body: bytes) -> bool:
        try:
            async with self._session.post(url, data=body, headers=_FIELDS) as answer:
                await answer.read()
                return answer.status < _FAILED_FROM
        except (aiohttp.ClientError, TimeoutError):
            return False


def open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
