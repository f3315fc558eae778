import asyncio
from dataclasses import replace

import pytest
from storage_rows import ACME, GLOBEX, add_tenants, stored_route

from pulse_contracts.ids import new_route_id
from pulse_runtime.clock import SystemClock
from pulse_storage import routes
from pulse_storage.feed import Feed
from pulse_storage.pool import Connection, Pool
from pulse_storage.route_listing import for_delivery, for_matching
from pulse_storage.routes import RouteNameTaken, SealedSecrets, StoredRoute, TooManyRoutes
from pulse_testkit.postgres import Database

SEALED = SealedSecrets(key_id="k1", ciphertext=b"\x00sealed")


@pytest.fixture
async def control(database: Database) -> Pool:
    await add_tenants(await database.owner())
    return await database.pool("pulse_control")


async def test_a_route_is_read_back_by_everyone_with_what_each_may_know(database: Database, control: Pool) -> None:
    created = replace(stored_route(), secrets=SEALED)
    await routes.create(control, created, {"max_attempts": 3}, "op")

    async with (await database.pool("pulse_router")).acquire() as connection:
        [matching] = await for_matching().refresh(connection)
    async with (await database.pool("pulse_delivery")).acquire() as connection:
        [delivering] = await for_delivery().refresh(connection)

    assert (matching.payload_filter, matching.config, matching.policy.max_attempts) == (
        {"t": {"$gt": 80}},
        {"url": "https://example.com/"},
        3,
    )
    assert delivering == StoredRoute(route=matching, secrets=SEALED)
    assert await routes.policy_text(control, ACME, created.route.route_id) == {"max_attempts": 3}


async def test_an_update_is_a_new_revision_and_history_keeps_both_without_secrets(
    database: Database, control: Pool
) -> None:
    created = replace(stored_route(), secrets=SEALED)
    await routes.create(control, created, {}, "op")

    renamed = replace(created, route=replace(created.route, name="renamed"))
    revision = await routes.update(control, renamed, {}, actor="op", action="route.update")

    owner = await database.owner()
    history = await owner.fetch("SELECT revision, definition FROM route_revisions ORDER BY revision")
    assert revision == 2
    assert [(row["revision"], row["definition"]["name"]) for row in history] == [(1, "alarms"), (2, "renamed")]
    assert not any(key.startswith("secrets") for row in history for key in row["definition"])
    log = await owner.fetch("SELECT tenant_id, actor, action FROM admin_log ORDER BY at")
    assert [tuple(row) for row in log] == [("acme", "op", "route.create"), ("acme", "op", "route.update")]


async def test_a_deleted_route_leaves_a_tombstone_and_frees_its_name(database: Database, control: Pool) -> None:
    created = stored_route()
    await routes.create(control, created, {}, "op")

    gone = replace(created, route=replace(created.route, deleted=True))
    await routes.update(control, gone, {}, actor="op", action="route.delete")
    successor = replace(created, route=replace(created.route, route_id=new_route_id()))
    await routes.create(control, successor, {}, "op")

    async with (await database.pool("pulse_router")).acquire() as connection:
        listed = await for_matching().refresh(connection)
    assert {route.route_id: route.deleted for route in listed} == {
        created.route.route_id: True,
        successor.route.route_id: False,
    }
    assert [stored.route.route_id for stored in await routes.list_of_tenant(control, ACME)] == [
        successor.route.route_id
    ]
    assert await routes.update(control, created, {}, actor="op", action="route.update") is None, "gone is gone"


async def test_a_name_is_taken_within_its_tenant_only(control: Pool) -> None:
    await routes.create(control, stored_route(tenant=ACME), {}, "op")
    await routes.create(control, stored_route(tenant=GLOBEX), {}, "op")
    same = stored_route(tenant=ACME)

    with pytest.raises(RouteNameTaken, match="alarms"):
        await routes.create(control, replace(same, route=replace(same.route, route_id=new_route_id())), {}, "op")


async def test_a_route_of_another_tenant_is_not_updated(control: Pool) -> None:
    await routes.create(control, stored_route(tenant=ACME), {}, "op")
    stolen = stored_route(tenant=ACME)
    stolen = replace(stolen, route=replace(stolen.route, tenant_id=GLOBEX))

    assert await routes.update(control, stolen, {}, actor="op", action="route.update") is None


async def test_a_policy_that_cannot_be_read_costs_only_its_own_route(database: Database, control: Pool) -> None:
    await routes.create(control, stored_route(tenant=ACME), {}, "op")
    await routes.create(control, stored_route(tenant=GLOBEX), {"from_a_later_version": 1}, "op")

    async with (await database.pool("pulse_router")).acquire() as connection:
        matching = await for_matching().refresh(connection)
    async with (await database.pool("pulse_delivery")).acquire() as connection:
        delivering = await for_delivery().refresh(connection)

    assert [route.tenant_id for route in matching] == [ACME]
    assert [stored.route.tenant_id for stored in delivering] == [ACME]


class Follower:
    """Keeps the names of all routes by a feed, and can be waited for."""

    def __init__(self, dsn: str) -> None:
        self.names: set[str] = set()
        self._changed = asyncio.Event()
        self.feed = Feed(dsn, routes.CHANNEL, self._refresh, service="router", clock=SystemClock())

    async def _refresh(self, connection: Connection) -> None:
        self.names = {route.name for route in await for_matching().refresh(connection)}
        self._changed.set()

    async def until(self, names: set[str]) -> None:
        async with asyncio.timeout(15):
            while self.names != names:
                self._changed.clear()
                await self._changed.wait()


async def test_a_feed_reads_the_table_and_follows_its_changes(database: Database, control: Pool) -> None:
    await routes.create(control, stored_route(tenant=ACME), {}, "op")
    follower = Follower(database.dsn("pulse_router"))
    run = asyncio.create_task(follower.feed.run())

    await asyncio.wait_for(follower.feed.loaded.wait(), 5)
    first = follower.names
    await routes.create(control, stored_route(tenant=GLOBEX, name="second"), {}, "op")
    await follower.until({"alarms", "second"})
    run.cancel()
    await asyncio.wait({run})

    assert first == {"alarms"}
    assert follower.feed.age_s < 30


async def test_a_feed_survives_the_database_and_reads_again(database: Database, control: Pool) -> None:
    await routes.create(control, stored_route(tenant=ACME), {}, "op")
    follower = Follower(database.dsn("pulse_router"))
    run = asyncio.create_task(follower.feed.run())
    await follower.until({"alarms"})

    database.postgres.kill()
    await database.postgres.until_ready()
    await routes.create(await database.pool("pulse_control"), stored_route(tenant=GLOBEX, name="second"), {}, "op")

    await follower.until({"alarms", "second"})
    run.cancel()
    await asyncio.wait({run})


def another_route(name: str) -> StoredRoute:
    return replace(stored_route(), route=replace(stored_route().route, route_id=new_route_id(), name=name))


async def test_each_change_of_any_route_of_a_tenant_is_its_next_generation(database: Database, control: Pool) -> None:
    first, second = stored_route(), another_route("second")
    await routes.create(control, first, {}, "op")
    await routes.create(control, second, {}, "op")
    await routes.update(control, first, {}, actor="op", action="route.update")

    async with (await database.pool("pulse_router")).acquire() as connection:
        listed = {route.route_id: route.generation for route in await for_matching().refresh(connection)}
    assert listed == {first.route.route_id: 3, second.route.route_id: 2}
    owner = await database.owner()
    history = await owner.fetch("SELECT route_id::text, revision, generation FROM route_revisions ORDER BY generation")
    assert [tuple(row) for row in history] == [
        (first.route.route_id, 1, 1),
        (second.route.route_id, 1, 2),
        (first.route.route_id, 2, 3),
    ]


async def blocked(watcher: Connection) -> int:
    """Count who waits for a lock. A connection within a transaction would see the same count for ever."""
    return await watcher.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )


async def test_a_change_waits_for_the_one_before_it(database: Database, control: Pool) -> None:
    """Who reads the routes must never see a generation and miss an earlier one that commits later."""
    await routes.create(control, stored_route(), {}, "op")
    owner, watcher = await database.owner(), await database.owner()
    async with owner.transaction():
        await owner.execute("UPDATE route_generations SET generation = generation + 1 WHERE tenant_id = $1", ACME)
        waiting = asyncio.create_task(routes.create(control, another_route("later"), {}, "op"))
        async with asyncio.timeout(10):
            while not await blocked(watcher):
                assert not waiting.done()
    await waiting
    assert await owner.fetchval("SELECT generation FROM message_routes WHERE name = 'later'") == 3


async def test_a_tenant_gets_no_more_routes_than_it_may_have_however_many_ask_at_once(
    database: Database, control: Pool
) -> None:
    await routes.create(control, stored_route(), {}, "op", most=2)
    owner, watcher = await database.owner(), await database.owner()
    async with owner.transaction():
        await owner.execute("UPDATE route_generations SET generation = generation WHERE tenant_id = $1", ACME)
        asked = [
            asyncio.create_task(routes.create(control, another_route(name), {}, "op", most=2))
            for name in ("b", "c", "d")
        ]
        async with asyncio.timeout(10):
            while await blocked(watcher) < len(asked):
                assert not any(task.done() for task in asked)
    came_to = await asyncio.gather(*asked, return_exceptions=True)

    assert [type(result) for result in came_to if result is not None] == [TooManyRoutes, TooManyRoutes]
    assert len(await routes.list_of_tenant(control, ACME)) == 2


async def test_a_deleted_route_makes_room_for_another(control: Pool) -> None:
    created = stored_route()
    await routes.create(control, created, {}, "op", most=1)
    gone = replace(created, route=replace(created.route, deleted=True))
    await routes.update(control, gone, {}, actor="op", action="route.delete")

    await routes.create(control, another_route("successor"), {}, "op", most=1)


async def test_a_change_of_a_route_that_another_changed_meanwhile_is_refused(control: Pool) -> None:
    created = stored_route()
    await routes.create(control, created, {}, "op")

    assert await routes.update(control, created, {}, actor="one", action="route.update") == 2
    assert await routes.update(control, created, {}, actor="other", action="route.update") is None
