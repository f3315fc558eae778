"""The bodies that the turns of a process have in hand (ADR 0019)."""


class Bodies:
    """A turn has one message in hand whatever the others hold, and more only while there is room."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._held_bytes = 0

    @property
    def are_many(self) -> bool:
        """Whether no turn should take another message beside one that it has."""
        return self._held_bytes >= self._most_bytes

    def took(self, size_bytes: int) -> None:
        self._held_bytes += size_bytes

    def settled(self, size_bytes: int) -> None:
        self._held_bytes -= size_bytes
