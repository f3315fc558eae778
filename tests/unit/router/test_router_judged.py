from pulse_contracts.ids import MessageId, TenantId
from pulse_router.domain.judged import MOST_IN_A_RECORD, Judged, JudgedMessages

ACME, GLOBEX = TenantId("acme"), TenantId("globex")


def ids(*numbers: int) -> tuple[MessageId, ...]:
    return tuple(MessageId(f"m-{number}") for number in numbers)


def test_messages_are_gathered_by_tenant_and_generation() -> None:
    judged = JudgedMessages()
    for tenant, generation, message in ((ACME, 1, 1), (GLOBEX, 1, 2), (ACME, 2, 3), (ACME, 1, 4)):
        judged.note(tenant, generation, *ids(message))
    assert judged.take() == [
        Judged(tenant=ACME, generation=1, messages=ids(1, 4)),
        Judged(tenant=GLOBEX, generation=1, messages=ids(2)),
        Judged(tenant=ACME, generation=2, messages=ids(3)),
    ]


def test_what_was_taken_is_not_taken_again() -> None:
    judged = JudgedMessages()
    judged.note(ACME, 1, *ids(1))
    judged.take()
    assert judged.take() == []


def test_a_record_has_a_bound() -> None:
    judged = JudgedMessages()
    for number in range(MOST_IN_A_RECORD + 1):
        judged.note(ACME, 1, *ids(number))
    assert [len(record.messages) for record in judged.take()] == [MOST_IN_A_RECORD, 1]


def test_beyond_the_bound_messages_are_counted_once_and_room_comes_back() -> None:
    judged = JudgedMessages(most=2)
    for number in range(5):
        judged.note(ACME, 1, *ids(number))
    assert judged.take() == [Judged(tenant=ACME, generation=1, messages=ids(0, 1))]
    assert (judged.take_lost(), judged.take_lost()) == (3, 0)
    judged.note(ACME, 1, *ids(9))
    assert judged.take() == [Judged(tenant=ACME, generation=1, messages=ids(9))]
