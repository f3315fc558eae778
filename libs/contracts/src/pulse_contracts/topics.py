"""The topics of devices: ``tenant/{tenant_id}/device/{device_id}/{type...}``."""

from dataclasses import dataclass
from typing import Final

from pulse_contracts.ids import DeviceId, InvalidIdentity, TenantId, device_id, tenant_id

SUBSCRIPTION: Final = "tenant/+/device/+/#"
"""What ingest subscribes to."""

MAX_TOPIC_BYTES: Final = 512
MAX_TYPE_LEVELS: Final = 16
_FIXED_LEVELS: Final = 4


class InvalidTopic(ValueError):
    """A topic that no device may publish to."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"topic: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTopic:
    """Where a device's message belongs."""

    tenant: TenantId
    device: DeviceId
    type: str
    """The levels below the device, joined by ``/``; never empty."""

    def __str__(self) -> str:
        return f"tenant/{self.tenant}/device/{self.device}/{self.type}"


def check_type(text: str) -> str:
    """Return *text* if it can be the type levels of a topic; raises `InvalidTopic`."""
    if not text or text.startswith("/") or text.endswith("/") or "//" in text:
        raise InvalidTopic("type must have at least one level and no empty one")
    if text.count("/") >= MAX_TYPE_LEVELS:
        raise InvalidTopic(f"type has more than {MAX_TYPE_LEVELS} levels")
    if not text.isprintable() or any(char in "+#*> " for char in text):
        raise InvalidTopic("type must be printable, without spaces or any of + # * >")
    return text


def parse_device_topic(topic: str) -> DeviceTopic:
    """Read a device's topic; raises `InvalidTopic` naming what is wrong with it."""
    if len(topic.encode(errors="surrogatepass")) > MAX_TOPIC_BYTES:
        raise InvalidTopic(f"longer than {MAX_TOPIC_BYTES} bytes")
    levels = topic.split("/", _FIXED_LEVELS)
    if len(levels) <= _FIXED_LEVELS or levels[0] != "tenant" or levels[2] != "device":
        raise InvalidTopic("must be tenant/{tenant_id}/device/{device_id}/{type...}")
    try:
        tenant, device = tenant_id(levels[1]), device_id(levels[3])
    except InvalidIdentity as exc:
        raise InvalidTopic(str(exc)) from exc
    return DeviceTopic(tenant=tenant, device=device, type=check_type(levels[4]))
