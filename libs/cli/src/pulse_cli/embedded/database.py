"""Where the embedded database is."""

from typing import Final

DATABASE: Final = "postgres"
SUPERUSER: Final = "postgres"


def database_url(port: int, role: str, password: str) -> str:
    """Return the address of the embedded database for one role."""
    return f"postgresql://{role}:{password}@127.0.0.1:{port}/{DATABASE}"
