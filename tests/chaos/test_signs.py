"""A sign that a cell promises and nobody saw is a finding, and so is one that it rules out."""

from collections import Counter
from typing import cast

import pytest
from chaos_signs import REFUSED, Signs, missing
from chaos_witness import Complaint, Witness
from support.pulse import Pulse

AGE = "pulse_router_oldest_unrouted_age_seconds"
RISES = "pulse_ingest_store_duplicates_total"
SIGNS = Signs(
    says={"ingest": "not connected"},
    stays_ready=("router",),
    logs={"ingest": "store_failed"},
    rises={"ingest": RISES},
    reaches={"router": (AGE, 5)},
    is_refused=True,
)


def heard(*complaints: tuple[str, str], duplicates: int = 1, age_s: int = 6) -> Witness:
    """Return one who was told these reasons, each by a service."""
    made = Witness(cast("Pulse", None))
    made.complaining = [Complaint(at=1.0, service=service, reason=reason) for service, reason in complaints]
    made.series.note("ingest", f"{RISES} {duplicates}")
    made.series.note("router", f"{AGE} {age_s}")
    return made


INGEST = ("ingest", "nats: not connected")


def unseen(seen: Witness, refused: str = REFUSED, event: str = "store_failed") -> list[str]:
    return missing(SIGNS, seen, Counter([refused]), lambda service, name: (service, name) == ("ingest", event))


def test_nothing_is_missing_if_all_was_seen() -> None:
    assert unseen(heard(INGEST)) == []


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        (heard(), "/ready of ingest"),
        (heard(INGEST, ("router", "gone")), "/ready of router said"),
        (heard(INGEST, duplicates=0), RISES),
        (heard(INGEST, age_s=4), AGE),
    ],
)
def test_a_sign_that_was_not_seen_is_found(seen: Witness, what: str) -> None:
    [found] = unseen(seen)
    assert what in found


def test_an_event_that_was_not_logged_is_found() -> None:
    assert unseen(heard(INGEST), event="other") == ["log of ingest: store_failed"]


def test_a_503_without_retry_after_is_found_whether_promised_or_not() -> None:
    assert unseen(heard(INGEST), refused="503")[-1] == "devices got 503"
    assert missing(Signs(), heard(INGEST), Counter(["503"]), lambda _service, _event: True) == ["devices got 503"]
