"""Dead letters: looking at them."""

from pulse_control.context import Control
from pulse_control.errors import NotFound
from pulse_control.tenants import known_tenant
from pulse_control.texts import is_uuid
from pulse_storage import dead_letters
from pulse_storage.dead_letters import DeadLetterRow


async def list_dead_letters(control: Control, tenant: str, most: int) -> list[DeadLetterRow]:
    """Return one tenant's dead letters, newest first; raises `NotFound` for an unknown tenant."""
    return await dead_letters.find(control.pool, await known_tenant(control, tenant), most=most)


async def show_dead_letter(control: Control, tenant: str, message_id: str) -> list[DeadLetterRow]:
    """Return the dead letters of one message, one a route; raises `NotFound`."""
    owner = await known_tenant(control, tenant)
    found = await dead_letters.find(control.pool, owner, message_id=message_id) if is_uuid(message_id) else []
    if not found:
        raise NotFound("message_id", f"tenant {tenant} has no dead letter of {message_id!r}")
    return found
