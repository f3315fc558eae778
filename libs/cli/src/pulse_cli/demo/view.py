"""What the demo shows while it runs: a live table on a terminal, plain lines elsewhere."""

import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pulse_cli.ledger.balance import Ledger
from pulse_contracts.routes import Route
from pulse_control.route_state import RouteState


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """The state of the run at one moment."""

    elapsed_s: float
    sent_per_s: float
    delivered_per_s: float
    oldest_undelivered_s: float
    """Since its device first sent it, whether it waits for the router, on the fast lane or in the siding."""
    ledger: Ledger
    routes: Sequence[Route]
    states: Mapping[str, RouteState]
    """By route id."""


class View(Protocol):
    """Shows glances."""

    def show(self, glance: Glance) -> None: ...


class PlainView:
    """One line a glance, on stderr, so that stdout stays for the ledger."""

    def show(self, glance: Glance) -> None:
        sys.stderr.write(f"{summary(glance)}\n")
        sys.stderr.flush()


class LiveView:
    """A table that is drawn anew."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, glance: Glance) -> None:
        self._live.update(table_of(glance), refresh=True)


@asynccontextmanager
async def open_view() -> AsyncGenerator[View, None]:
    """Yield the view that suits where stderr goes."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainView()
        return
    with Live(console=console, auto_refresh=False) as live:
        yield LiveView(live)


def summary(glance: Glance) -> str:
    """Return a glance in one line."""
    ledger = glance.ledger
    sidings = sum(state.lane == "siding" for state in glance.states.values())
    return (
        f"{glance.elapsed_s:5.1f} s  sent {glance.sent_per_s:.0f}/s  delivered {glance.delivered_per_s:.0f}/s  "
        f"accepted {ledger.accepted}  delivered {ledger.delivered}  waiting {ledger.waiting}  "
        f"dead letters {ledger.dead_lettered}  routes in siding {sidings}  "
        f"oldest undelivered {glance.oldest_undelivered_s:.1f} s"
    )


def table_of(glance: Glance) -> Table:
    """Return a glance as a table: its summary above, then one row for each route."""
    table = Table(title=summary(glance), title_justify="left", title_style="")
    for column in ("tenant", "route", "kind", "lane", "delivered", "waiting", "dead letters", "paused until"):
        table.add_column(column, justify="right" if column in {"delivered", "waiting", "dead letters"} else "left")
    accounts = {(account.tenant, account.name): account for account in glance.ledger.routes}
    for route in glance.routes:
        account = accounts[route.tenant_id, route.name]
        state = glance.states.get(route.route_id)
        paused = (state.paused_until or "-")[11:19] if state and state.paused_until else "-"
        table.add_row(
            route.tenant_id,
            route.name,
            route.kind,
            state.lane if state else "?",
            str(account.delivered),
            str(account.waiting),
            str(account.dead_lettered),
            paused,
        )
    return table
