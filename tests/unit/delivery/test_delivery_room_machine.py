"""The room against a model of the siding that knows every message, with counts that race with shunts."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.subjects import RouteAddress
from pulse_delivery.domain.room import Extent, SidingRoom

TENANTS = 3
SIZE_OF = {
    RouteAddress(kind="webhook", tenant=TenantId(f"t{t}"), route=RouteId(f"t{t}-r{r}")): 50 + 170 * r + 10 * t
    for t in range(TENANTS)
    for r in range(2)
}
"""Each route's messages are of one size: then what the room thinks must be exact."""
ROUTES = st.sampled_from(sorted(SIZE_OF, key=lambda route: route.route))
MOST_BYTES = 20_000


class AloneMachine(RuleBasedStateMachine):
    """One process fills the siding; messages come, are stored, are acknowledged and leave at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.standing: dict[RouteAddress, int] = dict.fromkeys(SIZE_OF, 0)
        self.coming: deque[RouteAddress] = deque()
        self.unacknowledged: deque[RouteAddress] = deque()
        """Stored, but this process has not heard of it."""
        self.account: dict[RouteAddress, int] | None = None
        """What the server answered, on its way to the room."""
        self.counting = False

    @initialize(share=st.sampled_from([0.25, 1.0, 3.0]))
    def open_room(self, share: float) -> None:
        self.share = share
        self.room = SidingRoom(share)
        self.count_begins()
        self.server_counts()
        self.counted()

    @rule(route=ROUTES, messages=st.integers(1, 20))
    def shunt(self, route: RouteAddress, messages: int) -> None:
        for _ in range(messages):
            if self.room.enter(route, SIZE_OF[route]) is None:
                self.coming.append(route)

    @rule(messages=st.integers(1, 40))
    def store(self, messages: int) -> None:
        for _ in range(min(messages, len(self.coming))):
            route = self.coming.popleft()
            assert self.used_bytes + SIZE_OF[route] <= MOST_BYTES, "admitted what does not fit"
            self.standing[route] += 1
            self.unacknowledged.append(route)

    @rule(messages=st.integers(1, 40))
    def acknowledge(self, messages: int) -> None:
        for _ in range(min(messages, len(self.unacknowledged))):
            route = self.unacknowledged.popleft()
            self.room.entered(route, SIZE_OF[route], stays=True)

    @rule()
    @precondition(lambda self: bool(self.coming))
    def refuse(self) -> None:
        route = self.coming.popleft()
        self.room.entered(route, SIZE_OF[route], stays=False)

    @rule(route=ROUTES, messages=st.integers(1, 30))
    def leave(self, route: RouteAddress, messages: int) -> None:
        self.standing[route] -= min(messages, self.standing[route])

    @rule()
    @precondition(lambda self: not self.counting)
    def count_begins(self) -> None:
        self.room.count_begins()
        self.counting = True

    @rule()
    @precondition(lambda self: self.counting and self.account is None)
    def server_counts(self) -> None:
        self.account = {route: messages for route, messages in self.standing.items() if messages}

    @rule()
    @precondition(lambda self: self.account is not None)
    def counted(self) -> None:
        assert self.account is not None
        used = sum(messages * SIZE_OF[route] for route, messages in self.account.items())
        self.room.counted(self.account, Extent(used_bytes=used, most_bytes=MOST_BYTES, most_per_route=None))
        self.account, self.counting = None, False

    @rule()
    @precondition(lambda self: self.counting)
    def counting_fails(self) -> None:
        self.account, self.counting = None, False

    @rule()
    @precondition(lambda self: not self.counting)
    def is_exact_when_it_is_quiet(self) -> None:
        self.store(len(self.coming))
        self.acknowledge(len(self.unacknowledged))
        self.count_begins()
        self.server_counts()
        self.counted()
        assert self.room.free_bytes == pytest.approx(MOST_BYTES - self.used_bytes)
        for tenant in range(TENANTS):
            assert self.room.held_bytes(TenantId(f"t{tenant}")) == pytest.approx(self.held_bytes(f"t{tenant}"))

    @invariant()
    def no_more_is_thought_free_than_is(self) -> None:
        on_the_way = sum(SIZE_OF[route] for route in self.coming)
        assert self.room.free_bytes <= MOST_BYTES - self.used_bytes - on_the_way + 1e-6

    @invariant()
    def nobody_holds_more_than_is_thought(self) -> None:
        for tenant in range(TENANTS):
            assert self.room.held_bytes(TenantId(f"t{tenant}")) >= self.held_bytes(f"t{tenant}") - 1e-6

    @invariant()
    def greed_leaves_something_free(self) -> None:
        assert MOST_BYTES - self.used_bytes >= MOST_BYTES / (1 + self.share) ** TENANTS

    @property
    def used_bytes(self) -> int:
        return sum(messages * SIZE_OF[route] for route, messages in self.standing.items())

    def held_bytes(self, tenant: str) -> int:
        return sum(count * SIZE_OF[route] for route, count in self.standing.items() if route.tenant == tenant)


class WithOthersMachine(RuleBasedStateMachine):
    """Another process fills it too: the room must find back to the truth after any interleaving."""

    def __init__(self) -> None:
        super().__init__()
        self.room = SidingRoom(1.0)
        self.standing: dict[RouteAddress, int] = dict.fromkeys(SIZE_OF, 0)
        self.pending: deque[RouteAddress] = deque()
        self.count()

    @rule(route=ROUTES, messages=st.integers(1, 20))
    def shunt(self, route: RouteAddress, messages: int) -> None:
        for _ in range(messages):
            if self.room.enter(route, SIZE_OF[route]) is None:
                self.pending.append(route)

    @rule(messages=st.integers(1, 40))
    def commit(self, messages: int) -> None:
        for _ in range(min(messages, len(self.pending))):
            route = self.pending.popleft()
            fits = self.used_bytes + SIZE_OF[route] <= MOST_BYTES
            self.standing[route] += fits
            self.room.entered(route, SIZE_OF[route], stays=fits)

    @rule(route=ROUTES, messages=st.integers(1, 20))
    def other_shunts(self, route: RouteAddress, messages: int) -> None:
        for _ in range(messages):
            self.standing[route] += self.used_bytes + SIZE_OF[route] <= MOST_BYTES

    @rule(route=ROUTES, messages=st.integers(1, 30))
    def leave(self, route: RouteAddress, messages: int) -> None:
        self.standing[route] -= min(messages, self.standing[route])

    @rule()
    def count(self) -> None:
        self.room.count_begins()
        waiting = {route: messages for route, messages in self.standing.items() if messages}
        extent = Extent(used_bytes=self.used_bytes, most_bytes=MOST_BYTES, most_per_route=None)
        self.room.counted(waiting, extent)

    @rule()
    def is_exact_once_everything_was_read(self) -> None:
        self.commit(len(self.pending))
        self.count()
        for route in self.room.unread(len(SIZE_OF)):
            self.room.read(route, SIZE_OF[route])
        self.count()
        assert self.room.free_bytes == pytest.approx(MOST_BYTES - self.used_bytes)
        for tenant in range(TENANTS):
            held = sum(count * SIZE_OF[route] for route, count in self.standing.items() if route.tenant == f"t{tenant}")
            assert self.room.held_bytes(TenantId(f"t{tenant}")) == pytest.approx(held)

    @property
    def used_bytes(self) -> int:
        return sum(messages * SIZE_OF[route] for route, messages in self.standing.items())


AloneMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
WithOthersMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestAlone = AloneMachine.TestCase
TestWithOthers = WithOthersMachine.TestCase
