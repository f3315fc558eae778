"""Devices of a stack that `pulse up` runs, with the tokens that its commands gave them."""

from urllib.parse import urlsplit

import aiomqtt
import asyncpg
import httpx
from support.cli import Running
from support.waiting import eventually

from pulse_cli.target import find_target
from pulse_router.domain.table import STORED_KIND

_ANSWERS_WITHIN_S = 20


async def routes_are_known(stack: Running) -> None:
    """Return when the router has read all routes that it emits for, so that what is sent next is matched."""
    connection = await asyncpg.connect(find_target(stack.data).owner_url)
    try:
        wanted = await connection.fetchval(
            "SELECT count(*) FROM message_routes WHERE deleted_at IS NULL AND kind <> $1", STORED_KIND
        )
    finally:
        await connection.close()

    async def known() -> float:
        async with httpx.AsyncClient() as client:
            text = (await client.get(stack.announced["metrics"]["router"])).text
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("pulse_router_routes "))

    await eventually(known, until=lambda number: number == wanted, what=f"a table of {wanted} routes")


async def post(stack: Running, tenant: str, device: str, token: str, status: int) -> str:
    url = f"{stack.announced['http']}/ingest/v1/tenant/{tenant}/device/{device}/data"
    async with httpx.AsyncClient(timeout=_ANSWERS_WITHIN_S) as client:
        answer = await client.post(url, json={"v": 9}, headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == status, answer.text
    return answer.json().get("message_id", "")


async def answers(stack: Running, tenant: str, device: str, token: str, status: int) -> bool:
    url = f"{stack.announced['http']}/ingest/v1/tenant/{tenant}/device/{device}/data"
    try:
        async with httpx.AsyncClient() as client:
            answer = await client.post(url, json={"v": 9}, headers={"authorization": f"Bearer {token}"})
    except httpx.TransportError:
        return False
    return answer.status_code == status


async def may_connect(stack: Running, tenant: str, device: str, token: str) -> bool:
    broker = urlsplit(str(stack.announced["mqtt"]))
    assert broker.hostname
    assert broker.port
    client = aiomqtt.Client(
        broker.hostname, broker.port, username=f"{tenant}/{device}", password=token, identifier=f"{tenant}-{device}"
    )
    try:
        async with client:
            return True
    except aiomqtt.MqttError:
        return False
