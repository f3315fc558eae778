"""What delivery refuses to start with."""

import asyncio
import os
import resource
import sys
from functools import partial

from pulse_cli.embedded.ports import Ports

_ENVIRONMENT = {
    "PULSE_NATS_URL": "nats://127.0.0.1:1",
    "PULSE_NATS_USER": "delivery",
    "PULSE_NATS_PASSWORD": "x",
    "PULSE_DATABASE_URL": "postgresql://127.0.0.1:1/pulse",
    "PULSE_SECRET_KEYS": "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
}


async def test_fewer_files_than_slots_refuse_the_start_with_a_sentence() -> None:
    with Ports() as ports:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pulse_delivery"),
            env={"PATH": os.environ["PATH"], **_ENVIRONMENT, "PULSE_ADMIN_PORT": str(ports.hold("admin").port)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_NOFILE, (1500, 1500)),
        )
        async with asyncio.timeout(20):
            said, _ = await process.communicate()
    assert process.returncode == 2, said.decode()
    assert "may open 1500 files but needs 4608" in said.decode()
    assert "lower PULSE_DELIVERY_WORKER_COUNT, which is 4096" in said.decode()
