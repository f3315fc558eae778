"""What every use case works with."""

from dataclasses import dataclass, field
from typing import NewType

from pulse_contracts.kinds import KindDescriptor, installed_kinds
from pulse_egress.policy import PUBLIC_ONLY, AddressPolicy
from pulse_storage.pool import Pool
from pulse_storage.sealing import KeyRing

Actor = NewType("Actor", str)
"""Who changes something, for ``admin_log``: ``cli:alice``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The operator's tools: the database as ``pulse_control``, the key ring, the installed kinds."""

    pool: Pool
    keys: KeyRing
    egress: AddressPolicy = PUBLIC_ONLY
    kinds: dict[str, KindDescriptor] = field(default_factory=installed_kinds)
