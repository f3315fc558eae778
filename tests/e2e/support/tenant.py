"""A tenant with its devices and routes, as tests use them."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiomqtt
import httpx

from pulse_contracts.ids import TenantId
from pulse_control import routes
from pulse_control.context import Actor
from pulse_control.route_input import RouteInput
from pulse_control.route_state import route_state
from pulse_storage import dead_letters
from pulse_storage.dead_letters import DeadLetterRow

if TYPE_CHECKING:
    from support.pulse import Pulse

ACTOR = Actor("test:e2e")
FAST_RETRIES: Mapping[str, object] = {"backoff": {"first_s": 0.05, "factor": 1, "cap_s": 0.2}}
"""A policy under which a test need not wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One tenant of a test's own."""

    pulse: "Pulse" = field(repr=False)
    tenant_id: TenantId
    key: str = field(repr=False)

    async def device(self, name: str = "d1") -> "Device":
        [device] = await self.pulse.devices(self, name)
        return device

    async def webhook(self, url: str, *, name: str = "hook", topic_filter: str = "#", **more: Any) -> "Route":
        """Make a route to *url*; *more* are members of RouteInput.

        Failures are tried again quickly, unless the policy says when or is None: then all of it is the default.
        """
        config: dict[str, object] = {"url": url, **more.pop("config", {})}
        return await self._route("webhook", config, name=name, topic_filter=topic_filter, **more)

    async def republish(self, topic: str, *, name: str = "again", topic_filter: str = "#", **more: Any) -> "Route":
        return await self._route("mqtt_republish", {"topic": topic}, name=name, topic_filter=topic_filter, **more)

    async def export(self, subject: str, *, name: str = "export", topic_filter: str = "#", **more: Any) -> "Route":
        """Make a route to a NATS subject below the tenant's own, which a stream must capture."""
        return await self._route("nats", {"subject": subject}, name=name, topic_filter=topic_filter, **more)

    async def _route(self, kind: str, config: dict[str, object], **more: Any) -> "Route":
        policy: Mapping[str, object] | None = more.pop("policy", {})
        more["policy"] = None if policy is None else {**FAST_RETRIES, **policy}
        return await self.pulse.route(self, RouteInput(kind=kind, config=config, **more))

    async def batch(self, *items: tuple[str, str, object]) -> list[str]:
        """Post device, type and payload of several messages at once; all must be accepted. Returns their ids."""
        body = [
            {"tenant_id": self.tenant_id, "device_id": device, "type": message_type, "payload": payload}
            for device, message_type, payload in items
        ]
        answer = await self.pulse.http.post(
            "/ingest/v1/batch", json=body, headers={"authorization": f"Bearer {self.key}"}
        )
        assert answer.status_code == 202, answer.text
        return [result["message_id"] for result in answer.json()["results"]]

    async def stored(self) -> list[dict[str, Any]]:
        """Return the rows of telemetry, oldest first."""
        rows = await self.pulse.rows(
            "SELECT message_id::text, device_id, type, topic, payload::text, time FROM telemetry WHERE tenant_id = $1 "
            "ORDER BY received_at",
            self.tenant_id,
        )
        return [dict(row) for row in rows]

    async def quarantined(self) -> list[dict[str, Any]]:
        rows = await self.pulse.rows(
            "SELECT topic, reason, error, payload FROM quarantine WHERE tenant_id = $1 ORDER BY received_at",
            self.tenant_id,
        )
        return [dict(row) for row in rows]

    async def dead_letters(self, *, most: int = 100) -> list[DeadLetterRow]:
        """Return what the operator sees in this tenant's context."""
        return await dead_letters.find(self.pulse.control.pool, self.tenant_id, most=most)

    @asynccontextmanager
    async def subscriber(self, topic_filter: str) -> AsyncGenerator[list[tuple[str, bytes]], None]:
        """Yield the list that republished messages are put into."""
        host, port = self.pulse.mqtt
        got: list[tuple[str, bytes]] = []
        async with aiomqtt.Client(
            host, port, username=self.tenant_id, password=self.key, identifier=f"{self.tenant_id}-sub"
        ) as client:
            await client.subscribe(topic_filter, qos=1)

            async def collect() -> None:
                async for message in client.messages:
                    got.append((str(message.topic), bytes(message.payload)))  # noqa: PERF401 - seen while it grows

            task = asyncio.create_task(collect(), name="test.subscriber")
            try:
                yield got
            finally:
                task.cancel()
                await asyncio.wait({task})


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device with its token."""

    tenant: Tenant
    device_id: str
    token: str = field(repr=False)

    def topic(self, message_type: str = "data") -> str:
        return f"tenant/{self.tenant.tenant_id}/device/{self.device_id}/{message_type}"

    async def post(
        self, payload: object, message_type: str = "data", *, token: str | None = None, **headers: str
    ) -> httpx.Response:
        """Post over HTTP; *payload* may be bytes as they are."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        fields = {"authorization": f"Bearer {token or self.token}"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        path = f"/ingest/v1/tenant/{self.tenant.tenant_id}/device/{self.device_id}/{message_type}"
        return await self.tenant.pulse.http.post(path, content=body, headers=fields)

    async def accepted(self, payload: object, message_type: str = "data", **headers: str) -> str:
        """Post what must be accepted; returns the message id."""
        answer = await self.post(payload, message_type, **headers)
        assert answer.status_code == 202, answer.text
        return answer.json()["message_id"]

    @asynccontextmanager
    async def mqtt(self, *, token: str | None = None, persistent: bool = False) -> AsyncGenerator[aiomqtt.Client, None]:
        """Yield an ordinary client, connected as this device."""
        host, port = self.tenant.pulse.mqtt
        async with aiomqtt.Client(
            host,
            port,
            username=f"{self.tenant.tenant_id}/{self.device_id}",
            password=token or self.token,
            # nats-server refuses client ids with a dot, which device ids may have.
            identifier=f"{self.tenant.tenant_id}-{self.device_id}".replace(".", "_"),
            clean_session=not persistent,
        ) as client:
            yield client

    async def publish(self, payload: object, message_type: str = "data") -> None:
        """Publish over MQTT at QoS 1; returns after the PUBACK."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        async with self.mqtt() as client:
            await client.publish(self.topic(message_type), body, qos=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of a tenant."""

    tenant: Tenant
    name: str
    route_id: str
    secret: str = field(repr=False)

    async def set_enabled(self, *, enabled: bool) -> None:
        pulse = self.tenant.pulse
        await pulse.after_reload(
            routes.set_route_enabled(pulse.control, self.tenant.tenant_id, self.name, ACTOR, enabled=enabled)
        )

    async def update(self, **changes: object) -> None:
        """Change members of its RouteInput."""
        pulse = self.tenant.pulse
        await pulse.after_reload(routes.update_route(pulse.control, self.tenant.tenant_id, self.name, changes, ACTOR))

    async def delete(self) -> None:
        pulse = self.tenant.pulse
        await pulse.after_reload(routes.delete_route(pulse.control, self.tenant.tenant_id, self.name, ACTOR))

    async def waiting(self) -> int:
        """How many messages of the route stand in the siding."""
        stored = await routes.find_route(self.tenant.pulse.control, self.tenant.tenant_id, self.name)
        async with self.tenant.pulse.bus() as bus:
            return (await route_state(bus, stored.route)).waiting
