"""What the name service answered, and for how long that serves. Synchronous; time is an argument.

While others are answered an old answer serves for a minute: what is silent longer is the name's own zone. While nobody
is answered, all old answers serve equally long, and run out at the same moment: then it looks like what it is, and not
like the trouble of one destination after the other.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_OWN_TROUBLE_S: Final = 60.0
_REMEMBERED: Final = 10_000
"""Names whose answer is kept; the one asked for longest ago goes first."""


@dataclass(slots=True, kw_only=True)
class _Answer:
    addresses: Sequence[str]
    given_at: float
    fresh_until: float


class Answers:
    """The latest answer for each name."""

    def __init__(self, ttl_s: float, kept_s: float) -> None:
        """*kept_s*: so long old answers serve while nobody is answered."""
        self._ttl_s = ttl_s
        self._kept_s = kept_s
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._answered_at = float("-inf")
        """When anybody was answered last."""

    def fresh(self, host: str, now: float) -> Sequence[str] | None:
        """Returns the addresses of a name for which nobody need ask now."""
        answer = self._answers.get(host)
        if answer is None or now >= answer.fresh_until:
            return None
        return answer.addresses if now < answer.given_at + self._ttl_s else self.old(host, now)

    def old(self, host: str, now: float) -> Sequence[str] | None:
        """Returns the addresses to use if nobody answers."""
        answer = self._answers.get(host)
        if answer is None or now >= self._answered_at + self._kept_s:
            return None
        return answer.addresses if answer.given_at >= self._answered_at - _OWN_TROUBLE_S else None

    def found(self, host: str, addresses: Sequence[str], now: float) -> None:
        """The name has these addresses."""
        self._answered_at = now
        self._answers[host] = _Answer(addresses=addresses, given_at=now, fresh_until=now + self._ttl_s)
        self._answers.move_to_end(host)
        if len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)

    def unknown(self, host: str) -> None:
        """There is no such name, or none any more."""
        self._answers.pop(host, None)

    def unanswered(self, host: str, now: float) -> None:
        """Nobody answered, or not yet: an old answer serves meanwhile, and the next question can wait."""
        if answer := self._answers.get(host):
            answer.fresh_until = now + self._ttl_s
