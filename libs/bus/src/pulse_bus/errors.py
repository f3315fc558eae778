"""What can go wrong on the bus, classified once."""

from typing import Final

_UNAVAILABLE: Final = 503


class BusError(Exception):
    """Anything that the bus could not do."""


class BusUnavailable(BusError):
    """Nobody answered: the outcome is unknown, and the same message ids must be used again."""


class ApiError(BusError):
    """JetStream answered with an error."""

    def __init__(self, operation: str, code: int, err_code: int, description: str) -> None:
        self.operation = operation
        self.code = code
        self.err_code = err_code
        self.description = description
        super().__init__(f"{operation}: {description} ({err_code})")

    @property
    def is_outage(self) -> bool:
        """Whether the server says that it cannot answer now, rather than what is wrong with the request."""
        return self.code == _UNAVAILABLE


class PublishRefused(BusError):
    """The stream refused a message for good: nothing of it is stored."""

    def __init__(self, stream: str, reason: str, description: str) -> None:
        self.stream = stream
        self.reason = reason
        """``stream_full``, ``subject_full``, ``too_large``, ``backlog`` or ``other``."""
        self.description = description
        super().__init__(f"{stream} refused: {description}")

    @property
    def is_full(self) -> bool:
        """Whether the stream has no room: it may have some later."""
        return self.reason in {"stream_full", "subject_full"}

    @property
    def is_final(self) -> bool:
        """Whether the message itself is at fault, so that it will be refused again."""
        return self.reason == "too_large"
