"""The demo runs through, small here, and says that its images are simulated."""

import json

import pytest

from ganomaly.commands import demo
from ganomaly.commands.console import Console
from ganomaly.config import FitOptions


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "N_TRAIN", 24)
    monkeypatch.setattr(demo, "N_TEST_NORMAL", 4)
    monkeypatch.setattr(demo, "N_TEST_PER_THREAT", 2)
    monkeypatch.setattr(
        demo,
        "OPTIONS",
        FitOptions(
            preset="paper", epochs=1, image_size=32, false_alarm_rate=0.1, method_options={"ngf": 4, "ndf": 4}
        ),
    )


def test_the_demo_makes_images_a_model_figures_and_a_report(small_demo, tmp_path, capsys):
    assert demo.demo(Console(), tmp_path / "demo")
    made = {path.name for path in (tmp_path / "demo").iterdir()}
    assert made == {"baggage", "baggage.safetensors", "evaluation.json", "report.html", "figures"}
    figures = json.loads((tmp_path / "demo" / "evaluation.json").read_text())
    assert figures["per_kind"].keys() == {"gun", "gun_parts", "knife"}
    assert (figures["n_normal"], figures["n_anomalous"]) == (4, 6)
    assert "simulated" in capsys.readouterr().err
    assert "simulated" in (tmp_path / "demo" / "report.html").read_text()
