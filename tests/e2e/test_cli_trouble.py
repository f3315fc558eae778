"""What `pulse route show` says of a route in trouble, as an operator types it."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from support.cli import Running, pulse_up
from support.cli_devices import post, routes_are_known
from support.receiver import Receiver, always
from support.waiting import eventually

PATIENT = ["--policy", '{"backoff": {"first_s": 600, "cap_s": 600}}']


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncGenerator[Running]:
    async with pulse_up(tmp_path / "data") as running:
        yield running


async def test_a_route_in_trouble_is_shown_with_what_is_wrong(stack: Running, receiver: Receiver) -> None:
    tenant = (await stack.pulse("tenant", "create", "acme", "--json")).json["tenant_id"]
    receiver.behaviour["/sick"] = always(503)
    arguments = ["--tenant", tenant]
    created = ["route", "create", "--name", "sick", "--topic-filter", "#", "--webhook", receiver.url("/sick")]
    await stack.pulse(*created, *PATIENT, *arguments)
    token = (await stack.pulse("device", "create", "d", *arguments, "--json")).json[0]["token"]
    await routes_are_known(stack)
    await post(stack, tenant, "d", token, 202)

    async def state() -> dict[str, Any]:
        return (await stack.pulse("route", "show", "sick", *arguments, "--json")).json["state"]

    shown = await eventually(state, 20, until=lambda state: state["phase"] == "paused", what="its pause")
    assert (shown["lane"], shown["cause"], shown["waiting"], shown["failures"]) == ("siding", "attempt_failed", 1, 1)
    assert "503" in shown["last_error"]
    assert shown["troubled_since"] <= shown["paused_until"]
    said = (await stack.pulse("route", "show", "sick", *arguments)).out
    assert all(shown[name] in said for name in ("cause", "last_error", "paused_until", "served_by"))
