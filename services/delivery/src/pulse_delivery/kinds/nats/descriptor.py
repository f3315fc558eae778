"""What Pulse knows of NATS destinations."""

import re
from collections.abc import Mapping

from pulse_contracts.ids import TenantId
from pulse_contracts.kinds import InvalidConfig, KindDescriptor, KindField

_SUBJECT = re.compile(r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64}){0,7}")


def _check(_tenant: TenantId, config: Mapping[str, object]) -> None:
    subject = config["subject"]
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise InvalidConfig("subject", "must be 1 to 8 tokens of A-Z, a-z, 0-9, _ and -")


DESCRIPTOR = KindDescriptor(
    name="nats",
    help="Publish to a subject below export.{tenant_id}., which a stream of yours must capture.",
    fields=(KindField(name="subject", help="The tokens after export.{tenant_id}.", required=True),),
    check=_check,
)
