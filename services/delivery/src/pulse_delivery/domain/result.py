"""What one attempt came to."""

from dataclasses import dataclass
from datetime import datetime

from pulse_contracts.outcome import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An outcome, and when it came."""

    outcome: Outcome
    began: datetime
    took_s: float
