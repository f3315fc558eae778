"""Writes the files of deploy that follow from the code, or with --check fails if they differ from it."""

import json
import sys
from pathlib import Path

from dashboard import dashboard

from pulse_bus.permissions import SERVICES, Permissions

HERE = Path(__file__).parent


def nats_users() -> str:
    """Return the users of the account PULSE: one a service, with what it may do and nothing else."""
    return "\n".join(
        [
            "# Written by `just docs` from libs/bus/src/pulse_bus/permissions.py; do not edit.",
            "# A password in the environment is read like a value of this file: let it begin with a letter and hold",
            "# only letters and digits, or be a bcrypt hash. An empty one lets everybody in.",
            "users: [",
            *(_user(name, permissions) for name, permissions in SERVICES.items()),
            "]",
            "",
        ]
    )


def _user(name: str, permissions: Permissions) -> str:
    return f"""  {{
    user: {json.dumps(name)}
    password: $NATS_PASSWORD_{name.upper()}
    permissions: {{
      publish: {_only(permissions.publish)}
      subscribe: {_only(permissions.subscribe)}
    }}
    allowed_connection_types: ["STANDARD"]
  }}"""


def _only(subjects: tuple[str, ...]) -> str:
    # An empty `allow` would allow everything.
    if not subjects:
        return '{ deny: [">"] }'
    lines = "\n".join(f"        {json.dumps(subject)}" for subject in subjects)
    return f"{{ allow: [\n{lines}\n      ] }}"


def files() -> dict[Path, str]:
    """Return each generated file with its text."""
    return {HERE / "nats/users.conf": nats_users(), HERE / "grafana/pulse.json": dashboard()}


def main() -> int:
    """Write, or compare and name what is stale."""
    stale = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        if stale:
            sys.stderr.write(f"stale, run `just docs`: {', '.join(str(path.relative_to(HERE)) for path in stale)}\n")
        return bool(stale)
    for path in stale:
        path.write_text(files()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
