"""A verb whose extra is not installed says what to install, and its help works without."""

import sys

import pytest

from shell import ganomaly


@pytest.mark.parametrize(
    ("verb", "package", "extra"), [("tune", "optuna", "tune"), ("fit-all", "yaml", "fit-all")]
)
def test_a_missing_extra_is_named(verb, package, extra, normal_folder, tmp_path, monkeypatch):
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("products: {nut: {data: normal}}")
    arguments = {
        "tune": (normal_folder, "--model", tmp_path / "m.safetensors"),
        "fit-all": (catalog, "--out", tmp_path / "models"),
    }[verb]
    for name in list(sys.modules):  # as in a new process
        if name.split(".")[0] == package or name.startswith(("ganomaly.tuning", "ganomaly.commands.tune")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    done = ganomaly(verb, *arguments)
    assert (done.returncode, f"ganomaly[{extra}]" in done.stderr) == (2, True), done.stderr
    assert ganomaly(verb, "--help").returncode == 0
