"""Commands that are loaded when they are asked for: together they import several drivers and take two seconds."""

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter

COMMANDS: Final = {
    "up": "Run all of Pulse here",
    "demo": "Run all of Pulse, fifty devices and five kinds of destination, and balance the ledger.",
    "migrate": "Apply the missing migrations",
    "provision": "Make streams and consumers match this version, and print the difference.",
    "top": "Watch what flows, what waits and the worst routes, until interrupted.",
    "nats": "Run the nats CLI against this Pulse, logged in as the operator",
    "tenant": "Tenants: who sends and who receives.",
    "device": "Devices: who may send.",
    "route": "Routes: which messages go where.",
    "trace": "Draw what is on record of one message",
    "dlq": "Dead letters: what was not delivered, and why.",
}
"""What each command does, for the list of all; the module of the command has the same name."""


def command_app(text: str | None = None) -> typer.Typer:
    """Return an empty application, of several commands if *text* says what they have in common.

    Help is plain: drawing boxes would take half a second.
    """
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode=None,
    )


def load(name: str) -> TyperCommand | TyperGroup:
    """Import a command; raises `KeyError` for a name that none has."""
    COMMANDS[name]
    command: Any = typer.main.get_command(import_module(f"pulse_cli.commands.{name}").app)
    # Only a single command knows its name; pages and messages should show that of a group too.
    command.name = name
    return command


class LazyGroup(TyperGroup):
    """The group of all commands."""

    def list_commands(self, ctx: "Context") -> list[str]:  # noqa: ARG002 - as in the class below
        """Return the names of all commands in the order of their help."""
        return list(COMMANDS)

    def get_command(self, ctx: "Context", cmd_name: str) -> TyperCommand | TyperGroup | None:  # noqa: ARG002 - same
        """Import a command; None if there is none of that name."""
        return load(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: "Context", args: list[str]) -> "tuple[str | None, Command | None, list[str]]":
        """Return the command that is meant; a name that is nearly one of ours gets a hint."""
        if args[0] not in COMMANDS and (near := get_close_matches(args[0], COMMANDS, n=1)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: "Context", formatter: "HelpFormatter") -> None:  # noqa: ARG002 - same
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
