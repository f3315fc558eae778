"""Devices of a stack that `pulse up` runs, with the tokens that its commands gave them."""

from urllib.parse import urlsplit

import aiomqtt
import httpx
from support.cli import Running


async def post(stack: Running, tenant: str, device: str, token: str, status: int) -> str:
    url = f"{stack.announced['http']}/ingest/v1/tenant/{tenant}/device/{device}/data"
    async with httpx.AsyncClient() as client:
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
