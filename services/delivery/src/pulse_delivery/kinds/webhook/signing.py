"""Signatures of the Standard Webhooks specification, and the predecessor's."""

import base64
import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = "whsec_"


def signature_headers(secrets: Sequence[str], webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers; one signature for each of *secrets*, of which there are two while one rotates.

    The id stays the same over all attempts; the timestamp, in epoch seconds, is the attempt's.
    """
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    signatures = " ".join(f"v1,{_sign(secret, signed)}" for secret in secrets)
    return {"webhook-id": webhook_id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}


def signature_256(secret: str, body: bytes) -> str:
    """Return the predecessor's ``X-Signature-256``: HMAC-SHA256 of the body, keyed with the secret as text."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _sign(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
