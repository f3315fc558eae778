"""One owner's names must not keep another's from being found, whatever its name servers do."""

import asyncio
import socket
import threading
from collections.abc import Generator
from typing import Any

import pytest
from egress_receivers import LOOPBACK, ScriptedLookup, loopback_engine, post, receiving
from support.waiting import eventually

from pulse_egress.engine import HttpEngine, HttpLimits
from pulse_egress.errors import ConnectFailed, ConnectFailure, EgressTimeout, Phase
from pulse_egress.lookup import MOST_LOOKUPS
from pulse_egress.names import MOST_OF_ONE_OWNER

HOSTILE_POSTS = MOST_LOOKUPS + 44
ALWAYS_ASKED = HttpLimits(max_age_s=0, dns_ttl_s=0)
HANGS_TOO = "*"
SILENCE = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.fixture
def hanging_zone(monkeypatch: pytest.MonkeyPatch) -> Generator[list[str]]:
    """Make the name servers of ``example.net`` hang, and those of all else answer loopback; yields what was asked.

    With `HANGS_TOO` put among that, all hang.
    """
    asked: list[str] = []
    end = threading.Event()

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        if host.endswith(".example.net") or HANGS_TOO in asked:
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
    lookup = ScriptedLookup(*[SILENCE] * (MOST_OF_ONE_OWNER + 1), ("127.0.0.1",))
    async with receiving() as receiver, loopback_engine(lookup=lookup) as engine:
        url = receiver.url(host="hooks.example.com")
        for _ in range(MOST_OF_ONE_OWNER + 1):
            with pytest.raises(Exception, match="dns"):
                await post(engine, url)
        assert (await post(engine, url)).status == 200


async def test_the_last_answer_serves_while_no_name_server_answers() -> None:
    lookup = ScriptedLookup(("127.0.0.1",), SILENCE)
    async with receiving() as receiver, loopback_engine(lookup=lookup, limits=ALWAYS_ASKED) as engine:
        for _ in range(3):
            assert (await post(engine, receiver.url(host="hooks.example.com"))).status == 200
    assert len(lookup.asked) == 3


async def test_the_last_answer_serves_while_a_name_server_hangs(hanging_zone: list[str]) -> None:
    async with receiving() as receiver, HttpEngine(LOOPBACK, limits=ALWAYS_ASKED) as engine:
        url = receiver.url(host="hooks.example.com")
        assert (await post(engine, url)).status == 200
        hanging_zone.append(HANGS_TOO)
        assert (await post(engine, url, deadline_s=3)).status == 200
    assert hanging_zone.count("hooks.example.com") == 2


async def test_a_name_that_is_gone_is_not_served_by_what_it_was() -> None:
    gone = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    lookup = ScriptedLookup(("127.0.0.1",), gone, SILENCE)
    async with receiving() as receiver, loopback_engine(lookup=lookup, limits=ALWAYS_ASKED) as engine:
        url = receiver.url(host="hooks.example.com")
        assert (await post(engine, url)).status == 200
        for reason in (ConnectFailure.UNKNOWN_NAME, ConnectFailure.DNS):
            with pytest.raises(ConnectFailed) as caught:
                await post(engine, url)
            assert caught.value.reason is reason
