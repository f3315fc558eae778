"""Whether a receiver got what was sent, signed as its route's owner was promised."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

_PREFIX: Final = "whsec_"


def is_signed(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether one of the signatures is of *secret*, by the Standard Webhooks specification.

    Written out here: the services' own function would agree with itself, whatever it does. The age of the timestamp is
    not judged: nobody replays requests to the demo.
    """
    signed = f"{headers.get('webhook-id', '')}.{headers.get('webhook-timestamp', '')}.".encode() + body
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(expected.encode(), signature.encode()) for signature in given)
