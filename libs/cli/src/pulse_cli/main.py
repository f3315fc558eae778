"""The ``pulse`` command."""

from pulse_cli.lazy import LazyGroup, command_app

app = command_app("Pulse: multi-tenant telemetry on NATS JetStream.")
app.info.cls = LazyGroup


@app.callback()
def pulse() -> None:
    """Pulse: multi-tenant telemetry on NATS JetStream."""


def main() -> None:
    """Run the command line."""
    app()
