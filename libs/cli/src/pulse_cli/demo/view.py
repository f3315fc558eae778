"""What the demo shows while it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from pulse_cli.ledger.balance import Ledger
from pulse_cli.screen import Picture
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


def picture_of(glance: Glance) -> Picture:
    """Return a glance in both forms."""
    return Picture(lines=summary(glance), drawn=table_of(glance))


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
