"""The precision of a long training is what this processor computes faster in, and stays."""

import json
from pathlib import Path

import pytest

from ganomaly.config import Precision, Preprocessing, TrainingOptions
from ganomaly.methods.ganomaly import GANomaly, GANomalyOptions
from ganomaly.training import precision as measuring
from ganomaly.training.checkpoint import Checkpoint, RunState, recorded_precision
from ganomaly.training.loop import train
from ganomaly.training.precision import faster_precision
from images import load_images

OPTIONS = GANomalyOptions(nz=8, ngf=4, ndf=4)
PREPROCESSING = Preprocessing(image_size=32, channels=1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANOMALY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        measuring, "choose_precision", lambda *_: "bf16"
    )  # also where there are no instructions
    return tmp_path / "cache"


def chosen(batch_size: int = 4, say=lambda _: None) -> Precision:
    return faster_precision(GANomaly, OPTIONS, PREPROCESSING, batch_size=batch_size, say=say)


def test_steps_are_measured_once_and_the_result_is_remembered(cache: Path):
    said: list[str] = []
    first = chosen(say=said.append)
    (file,) = cache.iterdir()
    milliseconds = json.loads(file.read_text())["milliseconds_per_step"]
    assert all(time > 0 for time in milliseconds.values())
    assert first == ("fp32" if milliseconds["bf16"] > measuring.CLEARLY * milliseconds["fp32"] else "bf16")
    assert first in said[0]
    assert chosen(say=said.append) == first
    assert len(said) == 1


@pytest.mark.parametrize(("bf16", "expected"), [(2.0, "fp32"), (0.5, "bf16"), (1.1, "bf16")])
def test_fp32_is_chosen_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, bf16: float, expected: Precision
):
    seconds = {"fp32": 1.0, "bf16": bf16}
    monkeypatch.setattr(measuring, "_seconds_per_step", lambda *arguments: seconds[arguments[-1]])
    assert chosen() == expected
    monkeypatch.setattr(measuring, "_seconds_per_step", lambda *_: 1.0)
    assert chosen() == expected  # remembered
    assert chosen(batch_size=8) == "bf16"  # of another kind


def test_a_result_that_cannot_be_remembered_does_not_decide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANOMALY_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(measuring, "_seconds_per_step", lambda *arguments: float(arguments[-1] == "bf16"))
    assert chosen() == "bf16"


def test_a_damaged_cache_is_measured_anew(cache: Path):
    first = chosen()
    (file,) = cache.iterdir()
    file.write_text("[]")
    chosen()
    assert json.loads(file.read_text())["precision"] in ("fp32", "bf16")
    assert first in ("fp32", "bf16")


def test_a_run_goes_on_in_the_precision_of_its_checkpoint(normal_images, tmp_path: Path):
    loader = load_images(normal_images)
    checkpoint = tmp_path / "run.checkpoint"
    method = GANomaly(OPTIONS, PREPROCESSING, measuring.Generator().manual_seed(0))
    training = TrainingOptions(epochs=1, batch_size=8, precision="fp32")
    identity = {
        "method": method.name,
        "options": OPTIONS.model_dump_json(),
        "preprocessing": PREPROCESSING.model_dump_json(),
        "training": training.model_dump_json(exclude={"checkpoint_seconds", "device"}),
        "data": "",
        "training images": str(len(loader.usable)),
    }
    Checkpoint(checkpoint, identity).save(method, method.optimizers(), RunState(step=1))
    assert recorded_precision(checkpoint) == "fp32"
    auto = TrainingOptions(epochs=1, batch_size=8)
    result = train(GANomaly, OPTIONS, PREPROCESSING, loader, loader.usable, auto, checkpoint=checkpoint)
    assert result.precision == "fp32"
    checkpoint.write_bytes(b"nothing")
    assert recorded_precision(checkpoint) is None
