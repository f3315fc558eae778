"""The kind of destination that needs no delivery: every accepted message is in PostgreSQL anyway."""

from pulse_contracts.kinds import KindDescriptor

DESCRIPTOR = KindDescriptor(
    name="postgresql",
    help="Counts as delivered once the message is stored in telemetry.",
    fields=(),
    emits=False,
)
