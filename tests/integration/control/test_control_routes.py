from dataclasses import replace
from typing import Any

import pytest

from pulse_contracts.ids import TenantId, new_route_id
from pulse_control import routes
from pulse_control.context import Actor, Control
from pulse_control.errors import ControlRefused, NotFound
from pulse_control.route_input import RouteInput
from pulse_control.tenants import create_tenant
from pulse_egress.policy import AddressPolicy
from pulse_storage import routes as stored_routes
from pulse_storage.sealing import KeyRing
from pulse_testkit.postgres import Database

ACTOR = Actor("test")
ACME = TenantId("acme")
CANARY = "canary-4711"


@pytest.fixture
async def control(database: Database) -> Control:
    control = Control(
        pool=await database.pool("pulse_control"), keys=KeyRing({"k": bytes(32)}), egress=AddressPolicy.from_ranges([])
    )
    await create_tenant(control, ACME, None, ACTOR)
    return control


async def make(control: Control, name: str, **changes: Any) -> str:
    wanted = RouteInput(name=name, topic_filter="#", kind="webhook", config={"url": "https://example.com"})
    return (await routes.create_route(control, ACME, replace(wanted, **changes), ACTOR)).route.route_id


async def test_a_route_is_found_by_its_id_before_any_other_is_by_its_name(control: Control) -> None:
    meant = await make(control, "z")
    stored = await routes.find_route(control, ACME, meant)
    # As an earlier version allowed it; by name it comes first.
    namesake = replace(stored, route=replace(stored.route, route_id=new_route_id(), name=meant))
    await stored_routes.create(control.pool, namesake, {}, ACTOR)

    assert (await routes.find_route(control, ACME, meant)).route.name == "z"
    assert (await routes.find_route(control, ACME, "z")).route.route_id == meant
    with pytest.raises(NotFound):
        await routes.find_route(control, ACME, "\udcff")


async def test_an_update_of_nothing_is_refused_and_makes_no_revision(control: Control) -> None:
    await make(control, "r")
    with pytest.raises(ControlRefused, match="nothing to change"):
        await routes.update_route(control, ACME, "r", {}, ACTOR)
    assert (await routes.find_route(control, ACME, "r")).route.revision == 1


async def test_filters_can_be_removed(control: Control) -> None:
    await make(control, "r", payload_filter={"a": 1}, expression="payload.a == 1")
    await routes.update_route(control, ACME, "r", {"payload_filter": None, "expression": None}, ACTOR)
    route = (await routes.find_route(control, ACME, "r")).route
    assert (route.payload_filter, route.expression) == (None, None)


async def test_a_changed_policy_keeps_what_was_not_named(control: Control) -> None:
    await make(control, "r", policy={"max_age_s": 60, "backoff": {"first_s": 5}})
    await routes.update_route(control, ACME, "r", {"policy": {"max_age_s": None, "backoff": {"cap_s": 9}}}, ACTOR)
    stored = await routes.find_route(control, ACME, "r")
    assert await routes.route_policy(control, stored.route) == {"backoff": {"first_s": 5, "cap_s": 9}}


async def test_a_secret_that_is_set_is_shown_as_a_mask(control: Control) -> None:
    url: dict[str, object] = {"url": "https://example.com"}
    await make(control, "open")
    await make(control, "secret", config={**url, "secret_headers": {"Authorization": CANARY}})
    shown = {
        stored.route.name: routes.shown_config(control, stored) for stored in await routes.list_routes(control, ACME)
    }
    assert shown == {"open": url, "secret": {**url, "secret_headers": "***"}}


async def test_without_the_key_secrets_are_said_to_be_unreadable_and_nothing_is_changed(control: Control) -> None:
    await make(control, "r", config={"url": "https://example.com", "secret_headers": {"Authorization": CANARY}})
    stranger = replace(control, keys=KeyRing({"other": bytes(32)}))

    [stored] = await routes.list_routes(stranger, ACME)
    assert routes.shown_config(stranger, stored)["secret_headers"] == "unreadable"
    for attempt in (
        routes.signing_secrets(stranger, ACME, "r"),
        routes.rotate_signing_secret(stranger, ACME, "r", ACTOR),
        routes.update_route(stranger, ACME, "r", {"name": "s"}, ACTOR),
    ):
        with pytest.raises(ControlRefused, match="'k'") as caught:
            await attempt
        assert caught.value.field == "PULSE_SECRET_KEYS"
    assert (await routes.find_route(stranger, ACME, "r")).route.revision == 1
