"""Writes the pages of docs/reference from the code, or with --check fails if they differ from it."""

import subprocess
import sys
import tempfile
from pathlib import Path

from pulse_cli.running import EXIT_CODES
from pulse_delivery.settings import DeliverySettings
from pulse_ingest.settings import IngestSettings
from pulse_router.settings import RouterSettings
from pulse_runtime import metrics, settings

HERE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by `just docs`; do not edit. -->\n"


def settings_page() -> str:
    parts = [NOTE, "# Settings\n", "Environment variables, or files of the same names in `PULSE_SECRETS_DIR`.\n"]
    for service, cls in (("ingest", IngestSettings), ("router", RouterSettings), ("delivery", DeliverySettings)):
        parts += [f"## {service}\n", "| variable | also | type | unit | default | meaning |", "|---|" + "---|" * 5]
        for row in settings.reference_rows(cls):
            default = "**required**" if row.default is None else f"`{row.default}`" if row.default else "empty"
            aliases = ", ".join(f"`{alias}`" for alias in row.aliases)
            parts.append(
                f"| `{row.variable}` | {aliases} | {row.type.replace('|', 'or')} | {row.unit or ''} | {default} "
                f"| {row.description} |"
            )
        parts.append("")
    return "\n".join(parts)


def metrics_page() -> str:
    parts = [NOTE, "# Metrics\n", "| name | kind | labels | meaning |", "|---|---|---|---|"]
    for row in metrics.reference_rows():
        labels = ", ".join(
            f"`{name}`" + (f" ({', '.join(values)})" if values else "") for name, values in row.labels.items()
        )
        parts.append(f"| `{row.name}` | {row.kind} | {labels} | {row.help} |")
    return "\n".join([*parts, ""])


def cli_page() -> str:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "cli.md"
        command = ["typer", "pulse_cli.main", "utils", "docs", "--name", "pulse", "--output", str(target)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own arguments
        return "\n".join([NOTE, target.read_text().rstrip(), "", *exit_codes(), ""])


def exit_codes() -> list[str]:
    rows = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    note = (
        "What is wrong stands on stderr, as a sentence. `pulse nats` ends with the nats CLI's own code once that runs."
    )
    return ["## Exit codes", "", "| code | meaning |", "|---|---|", *rows, "", note]


def _present(page: Path) -> str | None:
    return page.read_text() if page.exists() else None


def main() -> int:
    pages = {"settings.md": settings_page(), "metrics.md": metrics_page(), "cli.md": cli_page()}
    if "--check" in sys.argv:
        stale = [name for name, text in pages.items() if text != _present(HERE / name)]
        if stale:
            sys.stderr.write(f"stale, run `just docs`: {', '.join(stale)}\n")
        return bool(stale)
    HERE.mkdir(exist_ok=True)
    for name, text in pages.items():
        (HERE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
