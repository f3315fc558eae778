"""Refusals of use cases: each a sentence that names the field."""


class ControlRefused(Exception):
    """What was asked for cannot be done as asked."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


class NotFound(ControlRefused):
    """There is no such thing."""
