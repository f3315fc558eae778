"""A screen suits where its stream goes."""

import sys
from io import StringIO

import pytest
from rich.table import Table

from pulse_cli.screen import LiveScreen, Picture, open_screen


def picture(text: str) -> Picture:
    table = Table("drawn")
    table.add_row(text)
    return Picture(lines=f"plain {text}", drawn=table)


async def test_where_there_is_no_terminal_lines_follow_each_other() -> None:
    stream = StringIO()
    async with open_screen(stream) as screen:
        screen.show(picture("one"))
        screen.show(picture("two"))
    assert stream.getvalue() == "plain one\nplain two\n"


async def test_on_a_terminal_each_picture_is_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    async with open_screen(sys.stderr) as screen:
        assert isinstance(screen, LiveScreen)
        screen.show(picture("one"))
        screen.show(picture("two"))
    out, err = capsys.readouterr()
    assert not out
    assert "plain" not in err
    assert [text for text in ("drawn", "│ one", "│ two") if text not in err] == []
