"""What Pulse knows of MQTT republishing without a broker."""

import re
from collections.abc import Mapping
from typing import Final

from pulse_contracts.ids import TenantId
from pulse_contracts.kinds import InvalidConfig, KindDescriptor, KindField

_MAX_TOPIC_CHARS: Final = 400
_INGESTED: Final = "device"
_FILLED_IN: Final = re.compile(r"\{(tenant_id|device_id|type)\}")


def _check(tenant: TenantId, config: Mapping[str, object]) -> None:
    topic = config["topic"]
    if not isinstance(topic, str):
        raise InvalidConfig("topic", "must be a string")
    try:
        check_topic(tenant, expand(topic, tenant, "device", "type"))
    except ValueError as exc:
        raise InvalidConfig("topic", str(exc)) from exc


def expand(template: str, tenant: str, device: str, message_type: str) -> str:
    """Fill in ``{tenant_id}``, ``{device_id}`` and ``{type}``; anything else in braces is a mistake (`ValueError`).

    Only the template is looked at: a brace in a message's type is data.
    """
    if set("{}") & set(_FILLED_IN.sub("", template)):
        raise ValueError("only {tenant_id}, {device_id} and {type} can be filled in")
    values = {"tenant_id": tenant, "device_id": device, "type": message_type}
    return _FILLED_IN.sub(lambda found: values[found[1]], template)


def check_topic(tenant: TenantId, topic: str) -> None:
    """Raise `ValueError` unless *topic* lies in the tenant's own space and outside of what ingest reads.

    The second is the hop guard: MQTT 3.1.1 has no place to carry a hop count, so a loop must be impossible.
    """
    levels = topic.split("/")
    if len(topic) > _MAX_TOPIC_CHARS or not topic.isprintable() or any(char in "+#$*> " for char in topic):
        raise ValueError("must be printable, without spaces or any of + # $ * >")
    if levels[:2] != ["tenant", tenant] or len(levels) < 3 or not all(levels):  # noqa: PLR2004 - tenant/{id}/…
        raise ValueError(f"must lie below tenant/{tenant}/")
    if levels[2] == _INGESTED:
        raise ValueError(f"must not lie below tenant/{tenant}/device/: ingest would take it in again")


DESCRIPTOR = KindDescriptor(
    name="mqtt_republish",
    help="Publish the original bytes to another topic of the tenant, at QoS 1, confirmed.",
    fields=(
        KindField(
            name="topic",
            help="Below tenant/{tenant_id}/ and not below …/device/; {tenant_id}, {device_id}, {type} are filled in.",
            required=True,
        ),
    ),
    check=_check,
)
