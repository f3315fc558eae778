"""The steps: which routes become hostile, and how."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from blast_radius.tempers import MIXED, Temper, spread
from blast_radius.world import Strand, of_one_tenant

CALM: Final = "calm"
TENANT: Final = "tenant"
MODES: Final = (*(temper.value for temper in Temper if temper is not Temper.CALM), MIXED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One kind of trouble."""

    mode: str
    """A temper, or ``mixed``."""
    hostile: int | None
    """So many routes, evenly over the tenants; None: all of one tenant."""

    @property
    def name(self) -> str:
        return f"{self.mode}-{TENANT if self.hostile is None else self.hostile}"

    def tempers(self, strands: Sequence[Strand]) -> Mapping[int, Temper]:
        """Return the tempers of the hostile receivers."""
        chosen = (
            of_one_tenant(strands) if self.hostile is None else [strand.index for strand in strands[: self.hostile]]
        )
        return spread(self.mode, chosen)


def parse_step(name: str) -> Step:
    """Read a name such as ``hang-20``, ``mixed-180`` or ``mixed-tenant``; raises `ValueError`."""
    mode, _, hostile = name.rpartition("-")
    if mode not in MODES or not (hostile == TENANT or hostile.isdecimal()):
        raise ValueError(f"{name}: a step is MODE-COUNT or MODE-{TENANT}, with a mode of {', '.join(MODES)}")
    return Step(mode=mode, hostile=None if hostile == TENANT else int(hostile))


def schedule(steps: Sequence[Step], repetitions: int) -> Iterator[Step | None]:
    """Yield the rounds in their order; None is a round without hostility.

    ``calm A B calm C D calm``: each hostile round has a calm one directly before or after it. The steps come in the
    opposite order at every other repetition: what drifts, a machine or a table that grows, meets all alike.
    """
    hostile = [step for nth in range(repetitions) for step in steps[:: -1 if nth % 2 else 1]]
    for nth, step in enumerate(hostile):
        if nth % 2 == 0:
            yield None
        yield step
    if len(hostile) % 2 == 0:
        yield None
