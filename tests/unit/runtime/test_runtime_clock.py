from datetime import UTC

from pulse_runtime.clock import Clock, SystemClock


async def test_the_system_clock_is_aware_and_never_goes_back() -> None:
    clock: Clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(-1)
    await clock.sleep(0.001)
    assert clock.monotonic() >= before + 0.001
    assert clock.now().tzinfo is UTC
