import time
from dataclasses import replace

import pytest
from storage_rows import ACME, GLOBEX, add_tenants, stored_route

from pulse_contracts.ids import new_route_id
from pulse_storage import routes
from pulse_storage.pool import Pool
from pulse_storage.route_listing import for_delivery, for_matching
from pulse_testkit.postgres import Database

MANY = 2_000
TIMES_CHEAPER = 4


@pytest.fixture
async def control(database: Database) -> Pool:
    await add_tenants(await database.owner())
    return await database.pool("pulse_control")


async def test_what_did_not_change_is_not_read_again(database: Database, control: Pool) -> None:
    mine, theirs = stored_route(tenant=ACME), stored_route(tenant=GLOBEX)
    for each in (mine, theirs):
        await routes.create(control, each, {}, "op")
    listing = for_delivery()
    async with (await database.pool("pulse_delivery")).acquire() as connection:
        [mine_before, theirs_before] = await listing.refresh(connection)
        renamed = replace(mine, route=replace(mine.route, name="renamed"))
        await routes.update(control, renamed, {}, actor="op", action="route.update")
        [mine_after, theirs_after] = await listing.refresh(connection)

    assert (mine_before.route.name, mine_after.route.name, mine_after.route.revision) == ("alarms", "renamed", 2)
    assert theirs_after is theirs_before


async def test_a_route_that_can_be_read_after_a_change_is_read(database: Database, control: Pool) -> None:
    route = stored_route()
    await routes.create(control, route, {"from_a_later_version": 1}, "op")
    listing = for_matching()
    async with (await database.pool("pulse_router")).acquire() as connection:
        assert await listing.refresh(connection) == []
        await routes.update(control, route, {}, actor="op", action="route.update")
        assert [found.revision for found in await listing.refresh(connection)] == [2]


async def test_one_tenants_change_costs_others_next_to_nothing(database: Database, control: Pool) -> None:
    route = stored_route()
    await routes.create(control, route, {}, "op")
    owner = await database.owner()
    await owner.executemany(
        "INSERT INTO message_routes (tenant_id, route_id, name, topic_filter, kind, config, policy, generation)"
        " SELECT tenant_id, $1, $2, topic_filter, kind, config, policy, generation FROM message_routes LIMIT 1",
        [(new_route_id(), f"route {number}") for number in range(MANY)],
    )
    listing = for_delivery()
    async with (await database.pool("pulse_delivery")).acquire() as connection:
        began_s = time.thread_time()
        await listing.refresh(connection)
        all_s = time.thread_time() - began_s
        await routes.update(control, route, {}, actor="op", action="route.update")
        began_s = time.thread_time()
        found = await listing.refresh(connection)
        one_s = time.thread_time() - began_s

    print(f"{MANY:,} routes read in {all_s * 1000:.0f} ms of CPU, one change in {one_s * 1000:.0f} ms")
    assert sorted(stored.route.revision for stored in found)[-2:] == [1, 2]
    assert one_s * TIMES_CHEAPER < all_s
