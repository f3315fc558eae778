"""Where NATS is; apart from what connects to it, so that an address can be had without a driver."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BusAddress:
    """Where NATS is, and as whom to log in."""

    url: str
    """Of one server, or of several, separated by commas."""
    user: str
    password: str
    service: str
    """Names the connection and its inbox, ``_INBOX_{service}``, which only this user may read."""
