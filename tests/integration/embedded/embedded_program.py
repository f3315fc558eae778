"""Runs a stack until a signal, as `pulse up` does: `python embedded_program.py FOLDER [SERVICE_VARIABLE]`.

Prints `preparing`, then the pids as JSON once the stack is up.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

from pulse_cli.embedded.folder import DataFolder, Secrets
from pulse_cli.embedded.nats_config import NatsUser
from pulse_cli.embedded.signals import cancelled_by_signals
from pulse_cli.embedded.stack import Addresses, EmbeddedStack, ServiceSpec

HERE = Path(__file__).parent


def service(name: str = "probe", **variables: str) -> ServiceSpec:
    def environment(addresses: Addresses, _: Secrets) -> dict[str, str]:
        admin = addresses.admin[name]
        address = {"PULSE_ADMIN_HOST": admin.host, "PULSE_ADMIN_PORT": str(admin.port)}
        return {**address, "PYTHONPATH": str(HERE), **variables}

    return ServiceSpec(name=name, module="embedded_service", environment=environment)


async def nothing(addresses: Addresses, secrets: Secrets) -> None:
    pass


def stack(
    folder: DataFolder,
    *services: ServiceSpec,
    prepare: Callable[[Addresses, Secrets], Coroutine[None, None, None]] = nothing,
) -> EmbeddedStack:
    password = folder.secrets(nats=["admin"]).nats["admin"]
    admin = NatsUser(name="admin", password=password, publish=(">",), subscribe=(">",))
    return EmbeddedStack(folder, services, nats_users=(admin,), prepare=prepare, durable=False)


async def main() -> None:
    async def prepare(addresses: Addresses, secrets: Secrets) -> None:
        print("preparing", flush=True)

    variables = dict.fromkeys(sys.argv[2:], "1")
    with cancelled_by_signals():
        async with (
            DataFolder(Path(sys.argv[1])) as folder,
            stack(folder, service(**variables), prepare=prepare) as running,
        ):
            pids = {name: running.pid(name) for name in ("postgres", "nats", "probe")}
            print(json.dumps(pids), flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        sys.exit(0)
