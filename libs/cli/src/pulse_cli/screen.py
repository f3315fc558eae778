"""Shows what changes: drawn anew in its place on a terminal, line after line elsewhere."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console, RenderableType
from rich.live import Live


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One moment, in both forms."""

    lines: str
    """Without a line end."""
    drawn: RenderableType


class Screen(Protocol):
    """Shows pictures."""

    def show(self, picture: Picture) -> None: ...


class PlainScreen:
    """Adds the lines of each picture to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, picture: Picture) -> None:
        self._stream.write(f"{picture.lines}\n")
        self._stream.flush()


class LiveScreen:
    """Draws each picture over the one before."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, picture: Picture) -> None:
        self._live.update(picture.drawn, refresh=True)


@asynccontextmanager
async def open_screen(stream: TextIO) -> AsyncGenerator[Screen, None]:
    """Yield the screen that suits where *stream* goes."""
    console = Console(file=stream)
    if not console.is_terminal:
        yield PlainScreen(stream)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield LiveScreen(live)
