"""What no memory could hold is refused before it is built, and a size that is suggested can be trained."""

import re

import numpy as np
import pytest
import torch

from ganomaly.config import FitOptions, Preprocessing
from ganomaly.data import ImageArrays, inspect_images, resources
from ganomaly.errors import UsageError
from ganomaly.methods import METHODS
from ganomaly.networks import check_image_size
from ganomaly.training.plan import TrainingPlan, plan_training


def planned(**options: object) -> TrainingPlan:
    dataset = ImageArrays(np.zeros((30, 40, 40), np.uint8))
    return plan_training(dataset, inspect_images(dataset), FitOptions.checked(**options))


@pytest.mark.parametrize("preset", ["paper", "small", "anogan", "egbad", "vae", "f-anogan"])
def test_networks_that_no_memory_could_hold_are_refused_before_they_are_built(preset, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "normal_", lambda *_, **__: pytest.fail("weights were drawn"))
    with pytest.raises(UsageError, match="of memory") as caught:
        planned(preset=preset, image_size=16_384)
    assert "\n" not in str(caught.value)


def test_the_memory_of_the_machine_counts(monkeypatch):
    planned(preset="paper", image_size=64)
    monkeypatch.setattr("ganomaly.training.memory.total_memory", lambda: 10**6)
    with pytest.raises(UsageError, match="of memory"):
        planned(preset="paper", image_size=64)
    monkeypatch.setattr("ganomaly.training.memory.total_memory", lambda: None)
    planned(preset="paper", image_size=64)


def test_training_itself_refuses_too(monkeypatch):
    """The benchmark makes no plan."""
    from ganomaly.training.loop import train
    from images import load_images, textures

    images = load_images(textures(30))
    monkeypatch.setattr("ganomaly.training.memory.total_memory", lambda: 10**6)
    method_type = METHODS["ganomaly"]
    training = method_type.presets["paper"].training_for(1)
    with pytest.raises(UsageError, match="of memory"):
        train(
            method_type,
            method_type.options_type(),
            Preprocessing(image_size=32, channels=1),
            images,
            np.arange(30),
            training.model_copy(update={"device": "cpu"}),
        )


@pytest.mark.parametrize("image_size", [1, 33, 48, 100, 200, 300, 700, 1000, 5000, 10_000, 16_000])
def test_a_suggested_size_can_be_trained(image_size):
    with pytest.raises(UsageError) as caught:
        check_image_size(image_size)
    suggested = [int(size) for size in re.findall(r"\d+", str(caught.value).split("; use ")[1])]
    assert suggested
    for size in suggested:
        check_image_size(size)
        # activations of a batch take a few times what a small network's weights take
        for preset in ("paper", "skip-ganomaly"):
            method_type = METHODS["ganomaly" if preset == "paper" else preset]
            with torch.device("meta"):
                method = method_type(
                    method_type.presets[preset].options,
                    Preprocessing(image_size=size, channels=1),
                    torch.Generator(),
                )
            assert 16 * sum(weight.numel() for weight in method.parameters()) < 4e9


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "_CGROUP", tmp_path)
    without_limit = resources.total_memory()
    assert without_limit is not None
    assert without_limit > 2**28
    (tmp_path / "memory.max").write_text("300000\n")
    assert resources.total_memory() == 300_000
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.total_memory() == without_limit
