"""It is on record which routes judged which message, also of what matched none."""

from typing import Any

from support.pulse import Pulse
from support.receiver import Receiver
from support.tenant import Device, Tenant
from support.waiting import eventually

_ROUTES_AS_OF = """
SELECT DISTINCT ON (route_id) route_id::text, revision, definition->>'topic_filter' AS topic_filter
FROM route_revisions WHERE tenant_id = $1 AND generation <= $2 ORDER BY route_id, generation DESC
"""


async def judged_by(pulse: Pulse, tenant: Tenant, message_id: str) -> dict[str, tuple[int, str]]:
    """Return the revision and topic filter of every route that the message was held against."""
    [row] = await eventually(
        lambda: pulse.rows(
            "SELECT generation FROM judgements WHERE tenant_id = $1 AND $2 = ANY (message_ids)",
            tenant.tenant_id,
            message_id,
        ),
        what="a judgement",
    )
    routes: list[Any] = await pulse.rows(_ROUTES_AS_OF, tenant.tenant_id, row["generation"])
    return {route["route_id"]: (route["revision"], route["topic_filter"]) for route in routes}


async def test_a_message_is_on_record_with_the_routes_as_they_were(pulse: Pulse, receiver: Receiver) -> None:
    tenant, other = await pulse.tenant(), await pulse.tenant()
    device = await tenant.device()
    early = await _routed(device, {"n": 0})
    first = await tenant.webhook(receiver.url("/first"), name="first")
    matching = await _routed(device, {"n": 1})
    await first.update(topic_filter="tenant/+/device/+/elsewhere")
    second = await tenant.webhook(receiver.url("/second"), name="second", topic_filter="nothing/like/it")
    await other.webhook(receiver.url("/other"))
    unmatched = await device.accepted({"n": 2})

    assert await judged_by(pulse, tenant, early) == {}
    assert await judged_by(pulse, tenant, matching) == {first.route_id: (1, "#")}
    assert await judged_by(pulse, tenant, unmatched) == {
        first.route_id: (2, "tenant/+/device/+/elsewhere"),
        second.route_id: (1, "nothing/like/it"),
    }


async def _routed(device: Device, payload: object) -> str:
    """Send a message and wait for the router: it is to be judged by the routes that there are now."""
    message_id = await device.accepted(payload)
    await eventually(
        lambda: device.tenant.pulse.log("router", "message_routed", message_id=message_id), what=f"routing of {payload}"
    )
    return message_id


async def test_a_router_that_stops_in_an_orderly_way_leaves_no_gap(pulse: Pulse) -> None:
    tenant = await pulse.tenant()
    device = await tenant.device()
    sent = [await device.accepted({"n": n}) for n in range(20)]
    await eventually(lambda: pulse.log("router", "message_routed", message_id=sent[-1]), what="routing")
    await pulse.restart("router")

    for message_id in sent:
        assert await judged_by(pulse, tenant, message_id) == {}
