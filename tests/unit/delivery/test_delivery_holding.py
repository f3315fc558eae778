import pytest

from pulse_contracts.topology import DELIVER_MAX_ACK_PENDING
from pulse_delivery.app import refuse_large_payloads
from pulse_delivery.domain.holding import Holding, Load
from pulse_delivery.domain.limits import LaneLimits
from pulse_runtime.refusal import StartRefused

KINDS = ("mqtt_republish", "nats", "webhook")
LIMITS = LaneLimits(held_messages=1200, held_bytes=12_000)


def holding(*held: tuple[str, int, int]) -> Holding:
    """Return an account with so many messages of such a size of each kind."""
    made = Holding(LIMITS, KINDS)
    for kind, messages, size_bytes in held:
        for _ in range(messages):
            made.took(kind, size_bytes)
    return made


def load(messages: int, size_bytes: int) -> Load:
    return Load(messages=messages, size_bytes=size_bytes)


def test_a_process_holds_less_than_half_of_what_may_be_unacknowledged() -> None:
    """A killed process keeps what it held for `ack_wait`; the one that takes its place can fill up all the same."""
    assert 2 * LaneLimits().held_messages < DELIVER_MAX_ACK_PENDING


@pytest.mark.parametrize("replicas", range(1, 9))
def test_attempts_that_all_hang_leave_room_for_what_comes(replicas: int) -> None:
    limits = LaneLimits.of_process(slots=4096, replicas=replicas)
    made = Holding(limits, KINDS)
    for _ in range(limits.slots):
        made.took("webhook", 100)
    assert made.excess(in_lanes=limits.slots) == 0
    assert all(made.room(kind, {}, is_down=False) == made.most_at_once for kind in KINDS)
    assert replicas * limits.held_messages <= LaneLimits().held_messages


def test_a_slot_budget_that_can_be_held_is_kept() -> None:
    assert [LaneLimits.of_process(slots=slots, replicas=3).slots for slots in (1, 64, 1200)] == [1, 64, 1200]


def test_a_quarter_may_be_promised_and_is_shared_evenly() -> None:
    assert holding().room("webhook", {}, is_down=False) == load(100, 1_000)


def test_a_backlog_of_an_outage_comes_no_faster_than_lanes_take_it() -> None:
    """Else messages would be handed back as too many that only came all at once."""
    made = holding(("nats", 600, 1))
    assert made.room("webhook", {}, is_down=False) == load(100, 1_000)
    assert made.room("webhook", {}, is_down=False, was_down=True) == load(100, 1_000)
    made = holding(("nats", 870, 1))
    assert made.room("webhook", {}, is_down=False) == load(100, 1_000)
    room = made.room("webhook", {"nats": load(15, 0)}, is_down=False, was_down=True)
    assert room == load(10, 1_000)
    made = holding(("nats", 900, 1))
    assert made.room("webhook", {}, is_down=False, was_down=True).messages == 0


def test_when_less_is_left_that_is_shared_evenly() -> None:
    assert holding(("nats", 1_050, 10)).room("webhook", {}, is_down=False) == load(50, 500)


def test_what_the_others_were_promised_is_not_promised_again() -> None:
    promised = {"nats": load(100, 900), "mqtt_republish": load(100, 0), "webhook": load(70, 1_000)}
    made = holding(("nats", 970, 11))
    assert made.room("webhook", promised, is_down=False) == load(30, 430)


def test_large_bodies_leave_less_room_though_they_are_few() -> None:
    assert holding(("webhook", 2, 6_000)).room("webhook", {}, is_down=False) == load(100, 0)


def test_nothing_is_left_below_zero() -> None:
    assert holding(("webhook", 1300, 10)).room("nats", {}, is_down=False) == load(0, 0)


@pytest.mark.parametrize("down", [1, 2])
def test_a_kind_that_cannot_be_reached_leaves_the_others_theirs(down: int) -> None:
    out_of_reach = KINDS[-down:]
    made = holding()
    for _ in range(10_000):
        for kind in out_of_reach:
            if made.room(kind, {}, is_down=True).messages:
                made.took(kind, 1)
    assert made.held.messages == down * 300
    assert made.room(KINDS[0], {}, is_down=False).messages == 100


def test_what_is_settled_is_held_no_longer() -> None:
    made = holding(("webhook", 2, 10))
    made.settled("webhook", 10)
    assert made.held == load(1, 10)


def test_lanes_give_way_before_the_pulling_stops() -> None:
    assert holding().excess(900) == 0
    assert holding().excess(910) == 10


def test_pulling_goes_on_beside_full_lanes_though_idle_kinds_use_nothing_of_what_they_were_promised() -> None:
    made = holding()
    idle = {kind: made.room(kind, {}, is_down=False) for kind in ("nats", "mqtt_republish")}
    for _ in range(900):
        made.took("webhook", 10)
    assert made.room("webhook", idle, is_down=False).messages == 100


def test_lanes_give_way_while_the_bodies_are_too_large() -> None:
    assert holding(("webhook", 1, 9_000)).excess(1) == 0
    assert holding(("webhook", 1, 9_001)).excess(1) == 1


def test_a_message_larger_than_a_kind_may_be_promised_refuses_the_start() -> None:
    holding = Holding(LaneLimits(), ["webhook", "mqtt_republish", "nats"])
    most_bytes = holding.most_at_once.size_bytes
    assert holding.room("nats", {}, is_down=False).size_bytes == most_bytes
    refuse_large_payloads(most_bytes, most_bytes)
    with pytest.raises(StartRefused, match=r"max_payload of nats-server is 8 MiB.*at most 5\.33 MiB"):
        refuse_large_payloads(8 * 1024 * 1024, most_bytes)
