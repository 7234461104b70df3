"""What is said of work that goes on."""

import pytest

from ganomaly import progress
from ganomaly.progress import Console


def test_a_log_says_now_and_then_how_far_a_count_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter((0.0, 5.0, 31.0, 31.0, 40.0, 62.0, 62.0))  # each look at the clock
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    with Console().counting(4, "cells") as count:
        for done in range(1, 5):
            count(done)
    assert capsys.readouterr().err.splitlines() == ["cells: 2 of 4", "cells: 4 of 4"]
