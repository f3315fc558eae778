"""An operator who edits, parks, enables and deletes routes, and what must follow from that in every schedule.

What a process does follows from what it knows: each reads the routes soon after an edit, a frozen one when it wakes.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from server_in_memory import at

from pulse_contracts.routes import Route
from pulse_contracts.subjects import RouteAddress
from pulse_storage.routes import StoredRoute

if TYPE_CHECKING:
    from collections.abc import Iterable

    from whole_process import Process
    from whole_witness import Trying
    from whole_world import World

BURIED_WITHIN_S: Final = 60.0
_READ_WITHIN_S: Final = 0.5
_LANE_EMPTIES_WITHIN_S: Final = 3.0
"""What waits in a lane has been taken up: it is tried, or goes to the siding when its lane is stuck."""
_BURIED_AFTER_WAKING_S: Final = 20.0
_CLOSED_WITHIN_S: Final = 7.0
"""A look of the turn, a deadline, and the look that clears what nobody serves."""


class Operator:
    """Has the routes of a schedule, and judges what becomes of those that are edited."""

    def __init__(self, world: "World", routes: "Iterable[StoredRoute]") -> None:
        self._world = world
        self._stored = {stored.route.address: stored for stored in routes}
        self._edited_at: dict[RouteAddress, float] = {}
        self._read_at: dict[tuple[str, RouteAddress, int], float] = {}
        """When a process was first seen to know a revision of a route."""
        self._kept_s: dict[RouteAddress, float] = {}
        """For how long a parked route has had a consumer."""
        self._nobody_until = float("-inf")
        """Till then every process stood still."""

    def stored(self) -> list[StoredRoute]:
        """Return what is in the table."""
        return list(self._stored.values())

    def route(self, address: RouteAddress) -> Route:
        return self._stored[address].route

    def is_parked(self, address: RouteAddress) -> bool:
        return not self.route(address).enabled and not self.route(address).deleted

    def is_edited_since(self, address: RouteAddress, began: float) -> bool:
        """Whether an edit ended a pause that began then; who paused need not have read of it yet."""
        return self._edited_at.get(address, float("-inf")) >= began - _READ_WITHIN_S

    def thawed(self) -> None:
        """Who was frozen reads of an edit only now."""
        if not any(True for _ in self._world.awake()):
            self._nobody_until = self._world.loop.time()
        for address in self._edited_at:
            if not self._is_read_by_all(address):
                self._edited_at[address] = self._world.loop.time()

    # What an operator does.

    def act(self) -> None:
        """Do something to a route that is not deleted."""
        address = self._world.chance.choice([each for each, stored in self._stored.items() if not stored.route.deleted])
        what = self._world.chance.choice(("edited", "parked", "parked", "parked", "deleted"))
        if self.is_parked(address):
            self.enable(address)
        elif what == "edited":
            self._edit(address, what, config={"url": f"https://{self._world.chance.random()}.example.com/"})
        elif what == "parked":
            self._edit(address, what, enabled=False)
        elif len(self._alive()) > 1:
            self._edit(address, what, deleted=True)

    def enable_all(self) -> None:
        for address in self._stored:
            if self.is_parked(address):
                self.enable(address)

    def enable(self, address: RouteAddress) -> None:
        self._edit(address, "enabled", enabled=True, enabled_at=at(self._world.loop.time()))

    def _edit(self, address: RouteAddress, what: str, **changes: Any) -> None:
        self._world.server.happened[what] += 1
        stored, now = self._stored[address], self._world.loop.time()
        route = replace(stored.route, revision=stored.route.revision + 1, **changes)
        self._stored[address] = replace(stored, route=route)
        self._edited_at[address] = now
        self._kept_s[address] = 0.0
        for process in self._world.processes:
            process.read_routes()

    def _alive(self) -> list[RouteAddress]:
        return [address for address, stored in self._stored.items() if not stored.route.deleted]

    # What must follow.

    def begins(self, trying: "Trying", process: "Process") -> None:
        """A route is not tried by who knows that it is parked or deleted."""
        known = process.book.get(trying.address.route)
        if known is None or (known.route.enabled and not known.route.deleted):
            return
        read_at = self._read_at.get((process.name, trying.address, known.route.revision), self._world.loop.time())
        most_s = _READ_WITHIN_S if trying.is_turns else _LANE_EMPTIES_WITHIN_S
        if self._world.loop.time() > read_at + most_s:
            what = "deleted" if known.route.deleted else "parked"
            self._world.server.violations.append(f"tried though {trying.address.route} is {what}")

    def buried(self, number: int, reason: str) -> None:
        """A message dies with its route, or of its age, and of nothing else that an operator could have meant."""
        address, routed_at = self._world.sent_at[number - 1]
        route, now = self.route(address), self._world.loop.time()
        if reason == "route_deleted" and not route.deleted:
            self._world.server.violations.append(f"{number} died with a route that lives")
        if reason == "max_age" and self._is_read_by_all(address):
            age = at(now) - max(at(routed_at), route.enabled_at)
            is_parked = self.is_parked(address) and not self.is_edited_since(address, now - _READ_WITHIN_S)
            if is_parked or age.total_seconds() < route.policy.max_age_s - _READ_WITHIN_S:
                self._world.server.violations.append(f"{number} died of its age before its time")

    def check(self, passed_s: float) -> None:
        for process in self._world.processes:
            for address in self._stored:
                if known := process.book.get(address.route):
                    key = (process.name, address, known.route.revision)
                    self._read_at.setdefault(key, self._world.loop.time())
        for address, stored in self._stored.items():
            if self.is_parked(address):
                self._check_parked(address, passed_s)
            elif not stored.route.deleted:
                self._check_age(stored.route)

    def _check_parked(self, address: RouteAddress, passed_s: float) -> None:
        """What waits of a parked route rests without a consumer."""
        is_kept = address in self._world.server.turns and self._is_read_by_all(address)
        if any(True for _ in self._world.awake()):
            self._kept_s[address] = self._kept_s[address] + passed_s if is_kept else 0.0
        assert self._kept_s[address] <= _CLOSED_WITHIN_S, f"{address.route} is parked and has a consumer"

    def _check_age(self, route: Route) -> None:
        """Nothing waits for much longer than its route wants, whatever its destination and its turn do."""
        now = self._world.loop.time()
        latest = at(now - route.policy.max_age_s - BURIED_WITHIN_S)
        if (
            route.enabled_at > latest
            or self._nobody_until > now - _BURIED_AFTER_WAKING_S
            or not any(True for _ in self._world.awake())
        ):
            return
        for stored in self._world.server.siding[route.address].values():
            _, routed_at = self._world.sent_at[stored.number - 1]
            assert at(routed_at) > latest, f"{stored.number} is too old, and waits"

    def _is_read_by_all(self, address: RouteAddress) -> bool:
        revision = self.route(address).revision
        return all(
            (known := process.book.get(address.route)) and known.route.revision == revision
            for process in self._world.processes
        )
