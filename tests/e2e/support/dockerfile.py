"""The images of deploy/docker, as far as they can be told without a container engine."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

DOCKERFILE = Path(__file__).parents[3] / "deploy/docker/Dockerfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One `FROM … AS …` and what is done in it."""

    name: str
    base: str
    steps: Sequence[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Instructions with their arguments, in order."""

    def given(self, instruction: str) -> list[str]:
        return [arguments for name, arguments in self.steps if name == instruction]


class Images:
    """The stages by name."""

    def __init__(self, text: str) -> None:
        self.stages: dict[str, Stage] = {}
        steps: list[tuple[str, str]] = []
        lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
        for line in lines:
            instruction, _, arguments = line.partition(" ")
            if instruction == "FROM":
                base, _, name = arguments.partition(" AS ")
                steps = []
                self.stages[name] = Stage(name=name, base=base, steps=steps)
            else:
                steps.append((instruction, arguments.strip()))

    @property
    def targets(self) -> list[str]:
        """The images that are meant to be run."""
        return [name for name, stage in self.stages.items() if stage.given("ENTRYPOINT")]

    def in_force(self, target: str, instruction: str) -> str | None:
        """Return the last *instruction* that holds for *target*, its own or one of those it is built from."""
        stage = self.stages.get(target)
        while stage is not None:
            if given := stage.given(instruction):
                return given[-1]
            stage = self.stages.get(stage.base)
        return None

    def builder(self, target: str) -> Stage:
        """Return the one stage that an image's environment is copied from."""
        [copied] = self.stages[target].given("COPY")
        source, *paths = shlex.split(copied)
        assert paths == ["/opt/pulse", "/opt/pulse"]
        return self.stages[source.removeprefix("--from=")]

    def build_command(self, target: str) -> list[str]:
        [command] = self.builder(target).given("RUN")
        return shlex.split(command)

    def entry_point(self, target: str) -> list[str]:
        [command] = self.stages[target].given("ENTRYPOINT")
        return json.loads(command)


def images() -> Images:
    return Images(DOCKERFILE.read_text(encoding="utf-8"))
