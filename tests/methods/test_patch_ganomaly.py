"""GANomaly for patches: any size, no seams, defects located, and a run that resumes exactly."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ganomaly import GANomalyDetector
from ganomaly.config import Preprocessing, TrainingOptions
from ganomaly.methods.losses import robust_cross_entropy
from ganomaly.methods.patch_ganomaly import PatchGANomaly, PatchGANomalyOptions, scoring
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.training.loop import TrainingResult, train
from ganomaly.training.observers import TrainingProgress
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


def untrained() -> PatchGANomaly:
    method = PatchGANomaly(OPTIONS, PREPROCESSING, torch.Generator().manual_seed(0))
    method.fit_scales(torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1)
    return method.eval()


def test_the_receptive_field_of_every_signal_is_smaller_than_the_margin_of_a_tile() -> None:
    method = untrained()
    side = 2 * scoring.MARGIN + 64
    x = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(2)) * 2 - 1
    changed_x = x.clone()
    changed_x[:, :, :32] = 1 - changed_x[:, :, :32]
    with eval_mode(method):
        outputs, changed_outputs = (
            method.scoring._tile_signals(method._outputs, 0, image) for image in (x, changed_x)
        )
    for output, changed, stride in zip(outputs, changed_outputs, (2, 1), strict=True):
        far = (32 + scoring.MARGIN) // stride
        assert not torch.equal(output[:, :, :far], changed[:, :, :far])
        torch.testing.assert_close(output[:, :, far:], changed[:, :, far:], rtol=1e-4, atol=1e-4)


def test_a_prediction_runs_each_network_once_per_scale() -> None:
    method = untrained()
    passes: Counter[str] = Counter()
    networks = {
        "encoder": method.encoder,
        "decoder": method.decoder,
        "reconstruction_encoder": method.reconstruction_encoder,
        "discriminator": method.discriminator.to_half,
        "segmentation_head": method.discriminator.segmentation_head,
    }
    for name, network in networks.items():
        network.register_forward_hook(lambda *_, name=name: passes.update([name]))
    with eval_mode(method):
        method.predict(torch.zeros(3, 1, 40, 50))
    assert passes == dict.fromkeys(networks, 3 * scoring.SCALES)


def test_a_target_that_cannot_be_predicted_has_less_gradient_than_an_uncertain_one() -> None:
    """In cross-entropy it has more."""
    logits = torch.tensor([-6.0, -1.0], requires_grad=True)
    robust_cross_entropy(logits, torch.ones(2), torch.ones(2)).backward()
    assert logits.grad is not None
    unpredictable, uncertain = logits.grad.abs().tolist()
    assert unpredictable < 0.2 * uncertain


def test_the_segmentation_loss_is_a_weighted_mean() -> None:
    logits, target = torch.tensor([3.0, -2.0]), torch.tensor([0.0, 1.0])
    first, second = (robust_cross_entropy(logits[i], target[i], torch.ones(())) for i in (0, 1))
    both = robust_cross_entropy(logits, target, torch.tensor([1.0, 3.0]))
    assert float(both) == pytest.approx(float((first + 3 * second) / 4))


def test_a_large_image_in_tiles_has_the_prediction_of_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    method = untrained()
    x = torch.rand(1, 1, 300, 430, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with eval_mode(method):
        whole = method.predict(x)
        monkeypatch.setattr(scoring, "TILE", 96)
        tiled = method.predict(x)
    torch.testing.assert_close(tiled.score, whole.score, rtol=1e-4, atol=1e-5)
    assert whole.anomaly_map is not None
    torch.testing.assert_close(tiled.anomaly_map, whole.anomaly_map, rtol=1e-3, atol=1e-4)


def test_statistics_of_large_images_in_tiles_are_those_of_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(4, 1, 230, 250, generator=torch.Generator().manual_seed(2)) * 2 - 1
    scores = []
    for tile in (768, 96):
        monkeypatch.setattr(scoring, "TILE", tile)
        method = untrained()
        with eval_mode(method):
            method.fit_statistics([x])
            scores.append(method.predict(x).score)
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-3, atol=1e-4)


def test_a_bank_takes_a_limited_number_of_positions_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "MAX_BANK_POSITIONS", 100)
    method = untrained()
    x = torch.rand(4, 1, 64, 80, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with eval_mode(method):
        outputs = scoring._bank_outputs(method._outputs, 0, x[:1], None, torch.Generator().manual_seed(0))
        assert outputs[1].shape[2:] == (1, 100)
        method.fit_statistics([x])
        assert torch.isfinite(method.predict(x).score).all()


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (33, 32), (100, 31)])
def test_an_image_of_any_size_has_a_prediction(size: tuple[int, int]) -> None:
    method = untrained()
    with eval_mode(method):
        prediction = method.predict(torch.zeros(1, 1, *size))
    assert torch.isfinite(prediction.score).all()
    assert prediction.anomaly_map is not None
    assert prediction.reconstruction is not None
    assert prediction.anomaly_map.shape == (1, *size)
    assert prediction.reconstruction.shape == (1, 1, *size)


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


def test_small_defects_on_images_of_another_size_raise_the_score_and_are_located() -> None:
    detector = GANomalyDetector(
        "patches",
        epochs=40,
        image_size=64,
        false_alarm_rate=0.2,
        method_options={"ngf": 8, "ndf": 8, "nz": 8},
        seed=0,
    ).fit(cloth(40, 64, 64))
    normal, anomalous = cloth(12, 70, 90, seed=1), cloth(12, 70, 90, seed=2)
    anomalous[:, 30:36, 50:56] = 60
    normal_scores, scores = detector.anomaly_score(normal), detector.anomaly_score(anomalous)
    assert np.mean(scores[:, None] > normal_scores) > 0.9
    maxima = [np.unravel_index(detector.anomaly_map(image).argmax(), (70, 90)) for image in anomalous]
    assert sum(26 <= row < 40 and 46 <= column < 60 for row, column in maxima) >= 9
