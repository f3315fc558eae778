"""Destination kinds: what a kind tells the rest of Pulse about itself.

A kind is a leaf package found by the entry point group ``pulse.kinds``; its descriptor imports nothing but this.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Final

from pulse_contracts.ids import TenantId

ENTRY_POINTS: Final = "pulse.kinds"
MASK: Final = "***"


class InvalidConfig(ValueError):
    """A destination's configuration with a field that its kind refuses."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"config.{field}: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KindField:
    """One member of a destination's configuration."""

    name: str
    help: str
    required: bool = False
    secret: bool = False
    """Kept encrypted beside the configuration and masked wherever it is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindDescriptor:
    """What the CLI, the router and provisioning know of a kind."""

    name: str
    help: str
    fields: tuple[KindField, ...]
    signs: bool = False
    """Whether a route of this kind owns a ``whsec_`` signing secret."""
    emits: bool = True
    """Whether the router publishes deliveries; ``postgresql`` is delivered once stored."""
    check: Callable[[TenantId, Mapping[str, object]], None] = lambda _tenant, _config: None
    """Raises `InvalidConfig` for a value that the fields alone do not show to be wrong."""

    def check_config(self, tenant: TenantId, config: Mapping[str, object]) -> None:
        """Raise `InvalidConfig` unless *config* is complete, has no unknown field, and the kind accepts it."""
        known = {field.name for field in self.fields}
        for name in config:
            if name not in known:
                raise InvalidConfig(name, f"unknown for {self.name}; known are {', '.join(sorted(known)) or 'none'}")
        for field in self.fields:
            if field.required and not config.get(field.name):
                raise InvalidConfig(field.name, "is required")
        self.check(tenant, config)

    def masked(self, config: Mapping[str, object], kept_apart: Iterable[str] = ()) -> dict[str, object]:
        """Return *config* with a mask for every secret, also for those of the fields whose values are kept apart."""
        secret = {field.name for field in self.fields if field.secret}
        shown = {name: MASK if name in secret else value for name, value in config.items()}
        return {**shown, **{name: MASK for name in kept_apart if name in secret}}


def installed_kinds() -> dict[str, KindDescriptor]:
    """Load the descriptors of every kind installed in this environment, by name."""
    loaded: dict[str, KindDescriptor] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        descriptor = entry.load()
        loaded[descriptor.name] = descriptor
    return dict(sorted(loaded.items()))
