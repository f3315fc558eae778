"""What must appear in no output and no log of a stack."""

import json
from pathlib import Path
from typing import Any

PREFIXES = ("whsec_", "dev_", "key_")
"""How signing secrets, device tokens and ingest keys begin."""


def secrets_of(data: Path) -> set[str]:
    """Return the secrets that a data folder keeps."""
    kept: dict[str, Any] = json.loads((data / "secrets.json").read_text())
    passwords = {*kept["nats"].values(), *kept["postgres"].values()}
    return {kept["encryption_key"], kept["mqtt_client_id"], *passwords}
