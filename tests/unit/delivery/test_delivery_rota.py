import pytest
from delivery_builders import address

from pulse_delivery.domain.rota import LOOKS, Rota


@pytest.mark.parametrize("count", [0, 1, 100, 101, 3_000, 10_000])
def test_however_many_wait_each_is_named_within_half_a_minute(count: int) -> None:
    rota, everybody = Rota(), [address(f"r-{n}") for n in range(count)]
    named = [route for _ in range(LOOKS) for route in rota.next(everybody)]
    assert named[:count] == everybody


def test_who_comes_in_the_middle_of_a_round_is_named_in_the_next() -> None:
    rota, everybody = Rota(), [address(f"r-{n}") for n in range(150)]
    late = address("late")
    assert late not in rota.next(everybody)
    assert late not in rota.next([*everybody, late])
    assert late in [*rota.next([*everybody, late]), *rota.next([])]
