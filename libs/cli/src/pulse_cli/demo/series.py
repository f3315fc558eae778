"""The recorded series that the demo's devices replay."""

import csv
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One day of weather."""

    day: str
    metrics: dict[str, float]
    weather: str


def load_series() -> list[Reading]:
    """Return the recorded days in order; see ``data/README.md`` for source and licence."""
    text = (files("pulse_cli.demo") / "data" / "seattle-weather.csv").read_text()
    return [
        Reading(
            day=row["date"],
            metrics={name: float(row[name]) for name in ("precipitation", "temp_max", "temp_min", "wind")},
            weather=row["weather"],
        )
        for row in csv.DictReader(text.splitlines())
    ]
