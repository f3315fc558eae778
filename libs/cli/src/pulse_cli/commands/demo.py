"""``pulse demo``."""


def demo() -> None:
    """Placeholder until the demo's own package is in place."""
