"""The ``pulse`` command."""

import typer

from pulse_cli.commands import device, dlq, route, tenant
from pulse_cli.commands.demo import demo
from pulse_cli.commands.installation import migrate, provision
from pulse_cli.commands.nats import PASSED_ON, nats
from pulse_cli.commands.up import up
from pulse_runtime.logging import configure

app = typer.Typer(
    help="Pulse: multi-tenant telemetry on NATS JetStream.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("up")(up)
app.command("demo")(demo)
app.command("migrate")(migrate)
app.command("provision")(provision)
app.command("nats", context_settings=PASSED_ON)(nats)
app.add_typer(tenant.app, name="tenant")
app.add_typer(device.app, name="device")
app.add_typer(route.app, name="route")
app.add_typer(dlq.app, name="dlq")


def main() -> None:
    """Run the command line. Logs go to stderr: stdout is for what a command prints."""
    configure("cli", "warning")
    app()
