"""The devices: post over HTTP at a steady rate, whatever becomes of it, and again until they are acknowledged."""

import asyncio
import json
import random
import time
from dataclasses import dataclass
from itertools import count
from typing import Final

import aiohttp

from blast_radius.systems import System
from blast_radius.world import TYPE, Strand
from pulse_contracts.ids import DeviceId, TenantId, supplied_message_id

_AGAIN_S: Final = 0.25
_LAST_ACKS_S: Final = 5.0
_ACCEPTED: Final = 202
_SEED: Final = 2026


@dataclass(slots=True, kw_only=True)
class Sent:
    """One message; times by the monotonic clock."""

    strand: int
    message_id: str
    begun_at: float
    """When the first POST began."""
    acknowledged_at: float | None = None


class Fleet:
    """One device a strand. Sends open-loop: a slow answer delays no later message."""

    def __init__(self, system: System, session: aiohttp.ClientSession) -> None:
        self._system = system
        self._session = session
        # Shuffled, so that neighbours in the list are no neighbours in time.
        self._order = random.Random(_SEED).sample(system.strands, len(system.strands))  # noqa: S311 - no secret
        self._numbers = count()

    async def send(self, seconds: float, rate_per_s: float) -> list[Sent]:
        """Send for so long, each device as often as the others; returns 5 s later at most, acknowledged or not."""
        sent: list[Sent] = []
        posts: set[asyncio.Task[None]] = set()
        start = time.monotonic()
        for nth in range(round(seconds * rate_per_s)):
            await asyncio.sleep(max(0.0, start + nth / rate_per_s - time.monotonic()))
            strand = self._order[next(self._numbers) % len(self._order)]
            posts.add(asyncio.create_task(self._post(strand, sent), name=f"bench.post[{strand.device}]"))
        _, late = await asyncio.wait(posts, timeout=_LAST_ACKS_S)
        for post in late:
            post.cancel()
        await asyncio.gather(*posts, return_exceptions=True)
        return sent

    async def _post(self, strand: Strand, sent: list[Sent]) -> None:
        begun = time.monotonic()
        supplied = f"{begun:.6f}"
        message_id = supplied_message_id(TenantId(strand.tenant), DeviceId(strand.device), supplied)
        message = Sent(strand=strand.index, message_id=message_id, begun_at=begun)
        sent.append(message)
        body = json.dumps({"metrics": {"temperature": 21.5, "sent_at": begun}, "message_id": supplied}).encode()
        url = f"{self._system.url}/ingest/v1/tenant/{strand.tenant}/device/{strand.device}/{TYPE}"
        fields = {"authorization": f"Bearer {strand.token}"}
        while not await self._is_accepted(url, body, fields):
            await asyncio.sleep(_AGAIN_S)
        message.acknowledged_at = time.monotonic()

    async def _is_accepted(self, url: str, body: bytes, fields: dict[str, str]) -> bool:
        try:
            async with self._session.post(url, data=body, headers=fields) as answer:
                return answer.status == _ACCEPTED
        except aiohttp.ClientError:
            return False


def open_session() -> aiohttp.ClientSession:
    """Return the devices' client: as many connections as posts are under way, and no hurry for an answer."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None, sock_read=60)
    )
