"""What an operator is told while something is broken: each cell promises signs, and they are looked for."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from chaos_witness import Witness

REFUSED: Final = "503 with Retry-After"
"""How `Flood.refusals` names the answer of a service that cannot take a message just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What is seen of a fault, and what is not; all by service."""

    says: Mapping[str, str] = field(default_factory=dict[str, str])
    """Words that `/ready` gives as a reason."""
    stays_ready: Sequence[str] = ()
    """Services whose `/ready` says nothing else all the while."""
    logs: Mapping[str, str] = field(default_factory=dict[str, str])
    """An event that stands in the log."""
    rises: Mapping[str, str] = field(default_factory=dict[str, str])
    """A counter that grows, perhaps with one of its labels."""
    reaches: Mapping[str, tuple[str, float]] = field(default_factory=dict[str, tuple[str, float]])
    """A gauge, and what it comes to at least."""
    is_refused: bool = False
    """Whether devices get 503 with Retry-After over HTTP."""


def missing(signs: Signs, witness: Witness, refusals: Counter[str], logged: Callable[[str, str], object]) -> list[str]:
    """Return what was promised and not seen, and what was seen and should not have been.

    *refusals* is what devices were told instead of an acknowledgement, *logged* whether a service logged an event.
    """
    found = [f"/ready of {name}: {words}" for name, words in signs.says.items() if not witness.said(name, words)]
    found += [
        f"/ready of {name} said {', '.join(said)}" for name in signs.stays_ready if (said := witness.complaints(name))
    ]
    found += [f"log of {name}: {event}" for name, event in signs.logs.items() if not logged(name, event)]
    found += [f"{name}: {metric}" for name, metric in signs.rises.items() if not witness.series.risen(name, metric)]
    found += [
        f"{metric} of {name}: {seen:g} instead of {least:g}"
        for name, (metric, least) in signs.reaches.items()
        if (seen := witness.series.most(name, metric)) < least
    ]
    if signs.is_refused and not refusals[REFUSED]:
        found.append(f"devices got {dict(refusals)}")
    found += [f"devices got {answer}" for answer in refusals if answer.startswith("5") and answer != REFUSED]
    return found
