"""Where the values of settings come from: the environment first, then files in a directory of secrets."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PREFIX: Final = "PULSE_"
SECRETS_DIR: Final = "PULSE_SECRETS_DIR"
"""A directory with one file a variable, named as the variable in any case, as Docker and Kubernetes mount secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Everything that was set, by variable, before anything is known about its meaning."""

    values: Mapping[str, str]
    """Only what is not empty: compose files pass an unset variable on as an empty one."""
    prefixed: frozenset[str]
    """All names that carry our prefix, also the empty ones."""
    problems: tuple[str, ...]

    def spellings(self, names: Iterable[str]) -> dict[str, str]:
        """The values given under any of the names of one setting."""
        return {name: self.values[name] for name in names if name in self.values}


def gather(environ: Mapping[str, str] | None) -> Given:
    """Read the environment and the directory of secrets; a variable wins over a file of the same name."""
    variables = dict(os.environ if environ is None else environ)
    directory = variables.get(SECRETS_DIR, "")
    files, problems = _read_directory(Path(directory)) if directory else ({}, [])
    everything = files | {name: value for name, value in variables.items() if value or name not in files}
    return Given(
        values={name: value for name, value in everything.items() if value},
        prefixed=frozenset(name for name in everything if name.startswith(PREFIX)),
        problems=tuple(problems),
    )


def _read_directory(directory: Path) -> tuple[dict[str, str], list[str]]:
    values: dict[str, str] = {}
    problems: list[str] = []
    try:
        # Kubernetes keeps its versions in entries that begin with two dots.
        paths = sorted(path for path in directory.iterdir() if not path.name.startswith(".") and path.is_file())
    except OSError as exc:
        return {}, [f"{SECRETS_DIR}: cannot read {directory}: {exc.strerror}"]
    for path in paths:
        try:
            values[path.name.upper()] = path.read_text(encoding="utf-8").strip()
        except OSError as exc:
            problems.append(f"{path.name.upper()}: cannot read {path}: {exc.strerror}")
        except UnicodeDecodeError:
            problems.append(f"{path.name.upper()}: {path} is not UTF-8 text")
    return values, problems
