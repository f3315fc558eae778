import asyncio
import socket
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from aiohttp import ClientConnectorError, ClientSession, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from egress_receivers import LOOPBACK, Receiver, ScriptedLookup, loopback_engine, post, receiving

from pulse_egress.dial import DialedRequest, DialGuard, begin_attempt, is_own_address
from pulse_egress.engine import HttpEngine, HttpLimits
from pulse_egress.errors import AddressRefused, ConnectFailed, ConnectFailure, EgressTimeout, Phase, Refusal
from pulse_egress.guard import check_url
from pulse_egress.lookup import SystemLookup
from pulse_egress.policy import AddressPolicy

ANY_PORT = AddressPolicy(allow_http=True, ports=None)
ONLY_SECOND = AddressPolicy.from_ranges(["127.0.0.2/32"], allow_http=True, ports=None)
ALWAYS_FRESH = HttpLimits(max_age_s=0, dns_ttl_s=0, dns_kept_s=0)


class UncheckedResolver(AbstractResolver):
    """What aiohttp would use without us."""

    def __init__(self, *hosts: str) -> None:
        self._hosts = hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self._hosts
        ]

    async def close(self) -> None:
        pass


async def refusal(engine: HttpEngine, url: str, policy: AddressPolicy) -> Refusal:
    with pytest.raises(AddressRefused) as caught:
        await post(engine, url, policy=policy)
    return caught.value.reason


@pytest.mark.parametrize(
    "answer",
    [
        ("127.0.0.1",),
        ("8.8.8.8", "127.0.0.1"),
        ("127.0.0.1", "8.8.8.8"),
        ("2606:4700::1111", "8.8.8.8", "127.0.0.1"),
        ("8.8.8.8", "::1"),
        ("::ffff:127.0.0.1",),
        ("64:ff9b::7f00:1",),
    ],
)
async def test_a_name_with_one_bad_address_is_not_contacted(answer: tuple[str, ...]) -> None:
    async with receiving() as canary, HttpEngine(ANY_PORT, lookup=ScriptedLookup(answer)) as engine:
        assert await refusal(engine, canary.url(host="hooks.example.com"), ANY_PORT) is Refusal.ADDRESS
    assert canary.contacts == 0


async def test_a_mixed_answer_is_refused_before_its_good_address_is_dialled() -> None:
    lookup = ScriptedLookup(("127.0.0.2", "127.0.0.1"))
    async with (
        receiving(host="127.0.0.2") as good,
        receiving(port=good.port) as canary,
        HttpEngine(ONLY_SECOND, lookup=lookup) as engine,
    ):
        assert await refusal(engine, good.url(host="hooks.example.com"), ONLY_SECOND) is Refusal.ADDRESS
    assert (good.contacts, canary.contacts) == (0, 0)


async def test_a_name_without_an_address_is_refused() -> None:
    async with HttpEngine(ANY_PORT, lookup=ScriptedLookup(())) as engine:
        assert await refusal(engine, "http://hooks.example.com/", ANY_PORT) is Refusal.NO_ADDRESS


async def test_an_answer_that_turns_bad_between_two_posts_is_refused() -> None:
    lookup = ScriptedLookup(("127.0.0.2",), ("127.0.0.1",))
    async with (
        receiving(host="127.0.0.2") as receiver,
        receiving(port=receiver.port) as canary,
        HttpEngine(ONLY_SECOND, lookup=lookup, limits=ALWAYS_FRESH) as engine,
    ):
        url = receiver.url(host="hooks.example.com")
        await post(engine, url, policy=ONLY_SECOND)
        assert await refusal(engine, url, ONLY_SECOND) is Refusal.ADDRESS
    assert (receiver.contacts, canary.contacts) == (1, 0)


async def test_the_dialled_address_is_the_checked_one_and_the_name_is_not_asked_again() -> None:
    lookup = ScriptedLookup(("127.0.0.2",), ("127.0.0.1",))
    async with (
        receiving(host="127.0.0.2") as receiver,
        receiving(port=receiver.port) as canary,
        HttpEngine(ONLY_SECOND, lookup=lookup, limits=ALWAYS_FRESH) as engine,
    ):
        await post(engine, receiver.url(host="hooks.example.com"), policy=ONLY_SECOND)
    assert lookup.asked == ["hooks.example.com"]
    assert (receiver.contacts, canary.contacts) == (1, 0)


async def unguarded_post(canary: Receiver, guard: DialGuard, *hosts: str) -> None:
    """Posts through a resolver that checks nothing, as if the first wall were down."""
    begin_attempt(check_url(canary.url(host="hooks.example.com"), LOOPBACK), guard)
    connector = TCPConnector(resolver=UncheckedResolver(*hosts), socket_factory=guard.open_socket)
    async with ClientSession(connector=connector, request_class=DialedRequest) as session:
        await session.post("http://hooks.example.com/")


async def test_the_socket_factory_stops_what_the_resolver_let_through() -> None:
    async with receiving() as canary:
        with pytest.raises(ClientConnectorError):
            await unguarded_post(canary, DialGuard(ONLY_SECOND, 60), "127.0.0.1")
    assert canary.contacts == 0


async def test_nothing_is_sent_to_a_good_address_after_a_bad_one_was_dialled() -> None:
    async with receiving(host="127.0.0.2") as good, receiving(port=good.port) as canary:
        with pytest.raises(AddressRefused):
            await unguarded_post(good, DialGuard(ONLY_SECOND, 60), "127.0.0.1", "127.0.0.2")
    assert (good.requests, canary.contacts) == ([], 0)


async def test_nothing_is_sent_over_a_connection_to_a_bad_address() -> None:
    async with receiving() as canary:
        begin_attempt(check_url(canary.url(host="hooks.example.com"), LOOPBACK), DialGuard(ONLY_SECOND, 60))
        connector = TCPConnector(resolver=UncheckedResolver("127.0.0.1"))
        async with ClientSession(connector=connector, request_class=DialedRequest) as session:
            with pytest.raises(AddressRefused):
                await session.post("http://hooks.example.com/")
    assert canary.requests == []


async def test_a_literal_address_that_passed_by_mistake_is_not_dialled() -> None:
    async with receiving() as canary, HttpEngine(ANY_PORT) as engine:
        forged = replace(check_url(canary.url(), LOOPBACK), policy=ANY_PORT)
        with pytest.raises(AddressRefused):
            await post(engine, forged)
    assert canary.contacts == 0


async def test_a_url_checked_under_a_looser_policy_is_checked_again() -> None:
    async with receiving() as canary, HttpEngine() as engine:
        assert await refusal(engine, canary.url(), LOOPBACK) is Refusal.PLAIN_HTTP
    assert canary.contacts == 0


async def test_a_resolver_error_is_a_failure_to_connect() -> None:
    lookup = ScriptedLookup(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"))
    async with loopback_engine(lookup=lookup) as engine:
        with pytest.raises(ConnectFailed) as caught:
            await post(engine, "http://hooks.example.com/")
    assert caught.value.reason is ConnectFailure.DNS


async def test_a_resolver_error_after_a_good_answer_does_not_switch_the_guard_off() -> None:
    lookup = ScriptedLookup(("127.0.0.2",), socket.gaierror(socket.EAI_FAIL, "SERVFAIL"), ("127.0.0.1",))
    async with (
        receiving(host="127.0.0.2") as receiver,
        receiving(port=receiver.port) as canary,
        HttpEngine(ONLY_SECOND, lookup=lookup, limits=ALWAYS_FRESH) as engine,
    ):
        url = receiver.url(host="hooks.example.com")
        await post(engine, url, policy=ONLY_SECOND)
        with pytest.raises(ConnectFailed):
            await post(engine, url, policy=ONLY_SECOND)
        assert await refusal(engine, url, ONLY_SECOND) is Refusal.ADDRESS
    assert canary.contacts == 0


async def test_a_hanging_resolver_ends_at_the_deadline() -> None:
    class HangingLookup(ScriptedLookup):
        async def __call__(self, host: str) -> Sequence[str]:
            await asyncio.Event().wait()
            return await super().__call__(host)

    async with loopback_engine(lookup=HangingLookup(())) as engine:
        with pytest.raises(EgressTimeout) as caught:
            await post(engine, "http://hooks.example.com/", deadline_s=0.1)
    assert caught.value.phase is Phase.DNS


async def test_posts_side_by_side_ask_for_a_name_once() -> None:
    lookup = ScriptedLookup(("127.0.0.1",))
    async with receiving() as receiver, loopback_engine(lookup=lookup) as engine:
        await asyncio.gather(*(post(engine, receiver.url(host="hooks.example.com")) for _ in range(16)))
    assert lookup.asked == ["hooks.example.com"]


async def test_the_next_address_is_tried_if_the_first_is_dead() -> None:
    lookup = ScriptedLookup(("127.0.0.3", "127.0.0.2"))
    async with receiving(host="127.0.0.2") as receiver, loopback_engine(lookup=lookup) as engine:
        answer = await post(engine, receiver.url(host="hooks.example.com"))
    assert answer.status == 200


async def test_the_system_resolver_finds_loopback_and_the_guard_refuses_it() -> None:
    lookup = SystemLookup()
    assert "127.0.0.1" in await lookup("localhost")
    lookup.close()
    policy = AddressPolicy(allow_names=frozenset({"localhost"}), allow_http=True)
    async with receiving() as canary, HttpEngine(policy) as engine:
        assert await refusal(engine, canary.url(host="localhost"), policy) is Refusal.ADDRESS
    assert canary.contacts == 0


@pytest.mark.parametrize(("address", "is_own"), [("127.0.0.1", True), ("192.0.2.1", False), ("2606:4700::1111", False)])
def test_an_own_address_is_recognized_without_contact(address: str, is_own: bool) -> None:  # noqa: FBT001 # a parameter
    assert is_own_address(ip_address(address)) is is_own
