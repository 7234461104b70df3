"""Progress without a terminal."""

from types import SimpleNamespace

import pytest

from ganomaly.commands import console
from ganomaly.commands.console import Console
from ganomaly.training.observers import TrainingProgress
from shell import ganomaly


def test_without_a_terminal_a_count_is_a_line_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(console, "time", clock)
    with Console().counting(4, "cells") as count:
        for done, clock.now in enumerate((5.0, 31.0, 40.0, 62.0), start=1):
            count(done)
    assert capsys.readouterr().err.splitlines() == ["cells: 2 of 4", "cells: 4 of 4"]
    with Console().counting(4, "cells") as count:
        for done, clock.now in enumerate((65.0, 99.0, 100.0, 101.0), start=1):
            count(done)
    assert capsys.readouterr().err.splitlines() == ["cells: 2 of 4", "cells: 4 of 4"]


def test_brackets_in_a_table_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Console().table({"extra [a]": "pip install 'ganomaly[dicom]'"})
    printed = capsys.readouterr().out
    assert "ganomaly[dicom]" in printed
    assert "extra [a]" in printed


def test_without_a_terminal_a_long_epoch_is_a_line_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(console, "time", clock)
    with Console().fitting() as display:
        for step, clock.now in enumerate((5.0, 36.0, 40.0, 50.0), start=1):
            display.trained(TrainingProgress(step, 8, (step + 3) // 4, 2, {}, 0, 10.0, 60.0))
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "epoch 1/2, step 2 of 8",
        "epoch 1/2, step 4 of 8",
    ]


def test_control_characters_of_names_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences could clear the screen or forge lines; right-to-left marks could disguise an ending."""
    terminal = Console()
    name = "a\x1b[2Jb\nganomaly: all well\u202e.png"
    terminal.say(f"{name}: cannot be read")
    terminal.warn(name)
    terminal.table({"file": name})
    printed = "".join(capsys.readouterr())
    assert "\x1b[2J" not in printed
    assert "\u202e" not in printed
    assert "\nganomaly: all well" not in printed
    assert r"a\x1b[2Jb\nganomaly: all well\u202e.png: cannot be read" in printed


def test_control_characters_of_names_do_not_reach_the_terminal_in_errors() -> None:
    done = ganomaly("info", "nothing\x1b[31m.safetensors")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
