"""One owner's names must not keep another's from being found, whatever its name servers do."""

import asyncio
import socket
import threading
from collections.abc import Generator
from typing import Any

import pytest
from egress_receivers import LOOPBACK, ScriptedLookup, loopback_engine, post, receiving
from support.waiting import eventually

from pulse_egress.engine import HttpEngine
from pulse_egress.errors import EgressTimeout, Phase
from pulse_egress.lookup import MOST_LOOKUPS
from pulse_egress.names import MOST_OF_ONE_OWNER

HOSTILE_POSTS = MOST_LOOKUPS + 44


@pytest.fixture
def hanging_zone(monkeypatch: pytest.MonkeyPatch) -> Generator[list[str]]:
    """Make the name servers of ``example.net`` hang, and those of all else answer loopback; yields what was asked."""
    asked: list[str] = []
    end = threading.Event()

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        if host.endswith(".example.net"):
            end.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield asked
    end.set()


async def test_an_owner_whose_zone_hangs_keeps_nobody_elses_names_from_being_found(hanging_zone: list[str]) -> None:
    async with receiving() as receiver, HttpEngine(LOOPBACK) as engine:
        hostile = asyncio.gather(
            *(
                post(engine, f"http://n{number}.example.net/", owner="mallory", deadline_s=1)
                for number in range(HOSTILE_POSTS)
            ),
            return_exceptions=True,
        )
        await eventually(lambda: len(hanging_zone) == MOST_OF_ONE_OWNER)
        answer = await post(engine, receiver.url(host="hooks.example.com"), owner="acme", deadline_s=2)
        failures = await hostile

    assert answer.status == 200
    phases = [failure.phase for failure in failures if isinstance(failure, EgressTimeout)]
    assert len(phases) == HOSTILE_POSTS
    assert phases.count(Phase.DNS) == MOST_OF_ONE_OWNER, "all others never asked, and say so"
    assert phases.count(Phase.QUEUE) == HOSTILE_POSTS - MOST_OF_ONE_OWNER
    assert len(hanging_zone) == MOST_OF_ONE_OWNER + 1


async def test_a_name_that_waits_in_anothers_share_is_found_within_ones_own(hanging_zone: list[str]) -> None:
    async with receiving() as receiver, HttpEngine(LOOPBACK) as engine:
        url = receiver.url(host="hooks.example.com")
        names = [f"http://n{number}.example.net/" for number in range(MOST_OF_ONE_OWNER)]
        hostile = asyncio.gather(
            *(post(engine, name, owner="mallory", deadline_s=1) for name in [*names, url]), return_exceptions=True
        )
        await eventually(lambda: len(hanging_zone) == MOST_OF_ONE_OWNER)
        assert (await post(engine, url, owner="acme", deadline_s=2)).status == 200
        await hostile


async def test_a_failed_look_up_is_not_remembered_and_its_place_is_free_again() -> None:
    failure = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    lookup = ScriptedLookup(*[failure] * (MOST_OF_ONE_OWNER + 1), ("127.0.0.1",))
    async with receiving() as receiver, loopback_engine(lookup=lookup) as engine:
        url = receiver.url(host="hooks.example.com")
        for _ in range(MOST_OF_ONE_OWNER + 1):
            with pytest.raises(Exception, match="dns"):
                await post(engine, url)
        assert (await post(engine, url)).status == 200
