"""GANomaly for patches: any size, no seams, defects found where they are, and a run that resumes exactly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ganomaly import GANomalyDetector
from ganomaly.config import Preprocessing, TrainingOptions
from ganomaly.methods import patch_ganomaly
from ganomaly.methods.patch_ganomaly import PatchGANomaly, PatchGANomalyOptions, robust_cross_entropy
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.training.observers import TrainingProgress
from ganomaly.training.loop import TrainingResult, train
from images import load_images

OPTIONS = PatchGANomalyOptions(nz=8, ngf=4, ndf=4)
PREPROCESSING = Preprocessing(image_size=32, channels=1, scale=1.0)


def cloth(n: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Woven cloth under uneven light, `uint8[n, height, width]`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    images = []
    for _ in range(n):
        weave = 20 * np.sin(x * 0.9 + rng.uniform(0, 6)) + 20 * np.sin(y * 0.9 + rng.uniform(0, 6))
        light = rng.uniform(-0.2, 0.2) * x + rng.uniform(-0.2, 0.2) * y
        images.append(120 + weave + light + rng.normal(0, 4, (height, width)))
    return np.clip(np.stack(images), 0, 255).astype(np.uint8)


def fresh() -> PatchGANomaly:
    method = PatchGANomaly(OPTIONS, PREPROCESSING, torch.Generator().manual_seed(0))
    method.fit_scales(torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1)
    return method.eval()


def test_the_view_of_a_place_ends_within_the_margin_of_a_tile() -> None:
    method = fresh()
    side = 2 * patch_ganomaly.MARGIN + 64
    x = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(2)) * 2 - 1
    other = x.clone()
    other[:, :, :32] = 1 - other[:, :, :32]
    with eval_mode(method):
        before, after = method._signals_of_tile(0, x), method._signals_of_tile(0, other)
    for one, changed, stride in zip(before, after, (2, 1), strict=True):
        far = (32 + patch_ganomaly.MARGIN) // stride
        assert not torch.equal(one[:, :, :far], changed[:, :, :far])
        torch.testing.assert_close(one[:, :, far:], changed[:, :, far:], rtol=1e-4, atol=1e-4)


def test_what_cannot_be_known_pulls_less_than_what_is_in_doubt() -> None:
    """Cross-entropy pulls the more, the surer the mistake is."""
    logits = torch.tensor([-6.0, -1.0], requires_grad=True)
    robust_cross_entropy(logits, torch.ones(2), torch.ones(2)).backward()
    assert logits.grad is not None
    hopeless, doubtful = logits.grad.abs().tolist()
    assert hopeless < 0.2 * doubtful


def test_places_count_by_their_importance() -> None:
    logits, truth = torch.tensor([3.0, -2.0]), torch.tensor([0.0, 1.0])
    first, second = (robust_cross_entropy(logits[i], truth[i], torch.ones(())) for i in (0, 1))
    both = robust_cross_entropy(logits, truth, torch.tensor([1.0, 3.0]))
    assert float(both) == pytest.approx(float((first + 3 * second) / 4))


def test_a_large_image_is_judged_as_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    method = fresh()
    x = torch.rand(1, 1, 300, 430, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with eval_mode(method):
        whole = method.predict(x)
        monkeypatch.setattr(patch_ganomaly, "TILE", 96)
        tiled = method.predict(x)
    torch.testing.assert_close(tiled.score, whole.score, rtol=1e-4, atol=1e-5)
    assert whole.anomaly_map is not None
    torch.testing.assert_close(tiled.anomaly_map, whole.anomaly_map, rtol=1e-3, atol=1e-4)


def test_normal_images_that_are_large_are_learnt_from_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(4, 1, 230, 250, generator=torch.Generator().manual_seed(2)) * 2 - 1
    learned = []
    for tile in (768, 96):
        monkeypatch.setattr(patch_ganomaly, "TILE", tile)
        method = fresh()
        with eval_mode(method):
            method.fit_statistics([x])
            learned.append(method.predict(x).score)
    torch.testing.assert_close(learned[1], learned[0], rtol=1e-3, atol=1e-4)


def test_of_large_normal_images_a_bank_takes_some_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_ganomaly, "MOST_PLACES", 100)
    method = fresh()
    x = torch.rand(4, 1, 64, 80, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with eval_mode(method):
        assert method._found(0, x[:1], torch.Generator().manual_seed(0))[1].shape[2:] == (1, 100)
        method.fit_statistics([x])
        assert torch.isfinite(method.predict(x).score).all()


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (33, 32), (100, 31)])
def test_an_image_of_any_size_is_judged(size: tuple[int, int]) -> None:
    method = fresh()
    with eval_mode(method):
        found = method.predict(torch.zeros(1, 1, *size))
    assert torch.isfinite(found.score).all()
    assert found.anomaly_map is not None
    assert found.reconstruction is not None
    assert found.anomaly_map.shape == (1, *size)
    assert found.reconstruction.shape == (1, 1, *size)


def run(images: NDArray[np.uint8], **more: Any) -> TrainingResult:
    loader = load_images(images, scale=1.0)
    training = TrainingOptions(steps=7, batch_size=4, precision="fp32", checkpoint_seconds=0)
    return train(PatchGANomaly, OPTIONS, PREPROCESSING, loader, loader.usable, training, **more)


class StopError(Exception):
    """Ends a run from inside."""


@pytest.mark.parametrize("stop_at", [1, 4, 6])
def test_a_run_stopped_at_any_step_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, stop_at: int
) -> None:
    images = cloth(6, 40, 50)

    def stop(progress: TrainingProgress) -> None:
        if progress.step == stop_at:
            raise StopError

    with pytest.raises(StopError):
        run(images, checkpoint=tmp_path / "run", on_progress=stop)
    resumed = run(images, checkpoint=tmp_path / "run").method.state_dict()
    for name, tensor in run(images).method.state_dict().items():
        assert torch.equal(tensor, resumed[name]), f"{name} differs"


def test_small_defects_on_images_of_other_sizes_are_found_and_pointed_at() -> None:
    detector = GANomalyDetector(
        "patches",
        epochs=40,
        image_size=64,
        false_alarm_rate=0.2,
        method_options={"ngf": 8, "ndf": 8, "nz": 8},
        seed=0,
    ).fit(cloth(40, 64, 64))
    normal, broken = cloth(12, 70, 90, seed=1), cloth(12, 70, 90, seed=2)
    broken[:, 30:36, 50:56] = 60
    normal_scores, scores = detector.anomaly_score(normal), detector.anomaly_score(broken)
    assert np.mean(scores[:, None] > normal_scores) > 0.9
    top_k_mean = [np.unravel_index(detector.anomaly_map(image).argmax(), (70, 90)) for image in broken]
    assert sum(26 <= row < 40 and 46 <= column < 60 for row, column in top_k_mean) >= 9
