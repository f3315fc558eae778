"""What the invariants yield."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_SHOWN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A broken invariant, and what broke it."""

    invariant: str
    subjects: tuple[str, ...]
    detail: str = ""

    def __str__(self) -> str:
        shown = ", ".join(self.subjects[:_SHOWN]) + (", …" if len(self.subjects) > _SHOWN else "")
        return f"{self.invariant}: {len(self.subjects)} ({shown}){self.detail and ' ' + self.detail}"


def found_in(invariant: str, subjects: Iterable[str], detail: str = "") -> Iterator[Finding]:
    """Yield a finding that names all of *subjects*, none if there are none."""
    if named := tuple(sorted(set(subjects))):
        yield Finding(invariant=invariant, subjects=named, detail=detail)
