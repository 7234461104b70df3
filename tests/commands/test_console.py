"""Progress without a terminal."""

from types import SimpleNamespace

import pytest

from ganomaly.commands import console
from ganomaly.commands.console import Console


def test_without_a_terminal_a_count_is_a_line_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(console, "time", clock)
    with Console().counting(4, "cells") as count:
        for done, clock.now in enumerate((5.0, 31.0, 40.0, 62.0), start=1):
            count(done)
    assert capsys.readouterr().err.splitlines() == ["cells: 2 of 4", "cells: 4 of 4"]
