from tracing_off.cost import GOAL_US, cost_us

GATE = 2
"""The gate stands at twice the goal: machines that run tests are busy."""


def test_tracing_that_is_off_costs_a_message_next_to_nothing() -> None:
    cost = cost_us()
    assert cost < GOAL_US * GATE, f"{cost:.2f} us"
