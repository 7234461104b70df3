"""Memory is counted within the limits of a container, and assumed low where the system does not say."""

from pathlib import Path

import pytest

from ganomaly.data import resources


def test_memory_and_processors_are_counted() -> None:
    assert 2**20 < resources.available_memory() < 2**50
    assert resources.usable_processors() >= 1


def test_the_limit_of_a_container_counts_and_cached_files_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_CGROUP", tmp_path)
    without_limit = resources.available_memory()
    (tmp_path / "memory.max").write_text("300000\n")
    (tmp_path / "memory.current").write_text("250000\n")
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 50000\n")
    assert resources.available_memory() == 100_000
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.available_memory() == pytest.approx(without_limit, rel=0.2)


def test_where_nobody_tells_2_gib_are_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_CGROUP", tmp_path)
    monkeypatch.setattr(Path, "read_text", lambda self: "")
    assert resources.available_memory() == 2 * 2**30
