"""What Pulse knows of webhooks without sending any."""

from collections.abc import Mapping
from typing import cast

from pulse_contracts.ids import TenantId
from pulse_contracts.kinds import InvalidConfig, KindDescriptor, KindField


def _check(_tenant: TenantId, config: Mapping[str, object]) -> None:
    if not isinstance(config["url"], str):
        raise InvalidConfig("url", "must be a string")
    for name in ("headers", "secret_headers"):
        fields = config.get(name, {})
        if not isinstance(fields, dict):
            raise InvalidConfig(name, "must be an object of header names and values")
        for value in cast("dict[str, object]", fields).values():
            if not isinstance(value, str):
                raise InvalidConfig(name, "must be an object of header names and values")
    if not isinstance(config.get("signature_256", False), bool):
        raise InvalidConfig("signature_256", "must be true or false")


DESCRIPTOR = KindDescriptor(
    name="webhook",
    help="POST each message to a URL, signed as Standard Webhooks says.",
    fields=(
        KindField(name="url", help="Where to post: https, a public address.", required=True),
        KindField(name="headers", help="Additional headers."),
        KindField(name="secret_headers", help="Additional headers whose values are secret.", secret=True),
        KindField(name="signature_256", help="Also send the predecessor's X-Signature-256."),
    ),
    signs=True,
    check=_check,
)
