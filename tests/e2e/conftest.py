from collections.abc import AsyncGenerator

import pytest
from support.pulse import Pulse, running
from support.receiver import Receiver, open_receiver


@pytest.fixture(scope="module")
async def pulse(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Pulse]:
    """All of Pulse, for one module; it tells everything in its logs."""
    async with running(tmp_path_factory.mktemp("pulse"), PULSE_LOG_LEVEL="debug") as stack:
        yield stack


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with open_receiver() as opened:
        yield opened
