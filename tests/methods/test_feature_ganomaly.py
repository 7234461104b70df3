"""GANomaly over pretrained features: any size, no seams, self-contained files, runs that resume exactly."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ganomaly import GANomalyDetector
from ganomaly.config import Preprocessing, TrainingOptions
from ganomaly.errors import UsageError
from ganomaly.methods.feature_ganomaly import (
    FeatureGANomaly,
    FeatureGANomalyOptions,
    feature_networks,
    feature_signals,
    pixel_signals,
    scoring,
)
from ganomaly.networks.backbones import default_levels, describe_backbone
from ganomaly.prediction.model_file import load_model, save_model
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.training.loop import TrainingResult, train
from ganomaly.training.observers import TrainingProgress
from images import load_images
from methods.test_patch_ganomaly import StopError, cloth

OPTIONS = FeatureGANomalyOptions(nz=8, ngf=8, ndf=4)
PREPROCESSING = Preprocessing(image_size=32, channels=1, scale=1.0)


def noise(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def method() -> FeatureGANomaly:
    """Untrained, with scales and statistics."""
    untrained = FeatureGANomaly(OPTIONS, PREPROCESSING, torch.Generator().manual_seed(0))
    untrained.load_pretrained()
    with eval_mode(untrained):
        untrained.fit_scales(noise(8, 1, 32, 32, seed=1))
        untrained.fit_statistics([noise(6, 1, 64, 80, seed=3)])
    return untrained


def test_the_default_levels_have_the_strides_8_16_and_32(method: FeatureGANomaly) -> None:
    assert list(method.features.levels) == default_levels("efficientnet-lite0")
    assert [level.stride for level in method.features.levels.values()] == [8, 16, 32]


def test_only_the_backbone_is_frozen(method: FeatureGANomaly) -> None:
    trained = {
        id(weight)
        for optimizer in method.optimizers().values()
        for weight in optimizer.param_groups[0]["params"]
    }
    for name, weight in method.named_parameters():
        is_backbone = name.startswith("features.backbone")
        assert (id(weight) in trained) != is_backbone, name
        assert weight.requires_grad != is_backbone, name


def test_a_prediction_runs_each_network_once_per_scale(method: FeatureGANomaly) -> None:
    passes: Counter[str] = Counter()
    networks = {
        "backbone": method.features.backbone,
        "encoder": method.features.encoder,
        "decoder": method.features.decoder,
        "reconstruction_encoder": method.features.reconstruction_encoder,
        "segmentation": method.segmentation.to_half,
    }
    hooks = [
        network.register_forward_hook(lambda *_, name=name: passes.update([name]))
        for name, network in networks.items()
    ]
    with eval_mode(method):
        method.predict(torch.zeros(3, 1, 40, 50))
    for hook in hooks:
        hook.remove()
    assert passes == dict.fromkeys(networks, 3) | {"segmentation": 3 * pixel_signals.SCALES}


def test_the_receptive_field_of_the_backbone_is_smaller_than_the_margin_of_a_tile(
    method: FeatureGANomaly,
) -> None:
    margin = feature_signals.MARGIN
    x = noise(1, 1, 64, 32 + 2 * margin)
    changed_x = x.clone()
    changed_x[..., :32] = 1 - changed_x[..., :32]
    with eval_mode(method):
        outputs, changed_outputs = (
            method.feature_signals._tile_signals(method.features, image) for image in (x, changed_x)
        )
    for output, changed in zip(outputs, changed_outputs, strict=True):
        far = (32 + margin) * output.shape[3] // x.shape[3]
        assert not torch.equal(output[..., :far], changed[..., :far])
        torch.testing.assert_close(output[..., far:], changed[..., far:], rtol=1e-4, atol=1e-4)


def test_a_large_image_in_tiles_has_the_prediction_of_one_pass(
    method: FeatureGANomaly, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = noise(1, 1, 100, 1100)
    with eval_mode(method):
        whole = method.predict(x)
        monkeypatch.setattr(feature_signals, "TILE", 96)
        monkeypatch.setattr(pixel_signals, "TILE", 96)
        tiled = method.predict(x)
    torch.testing.assert_close(tiled.score, whole.score, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tiled.anomaly_map, whole.anomaly_map, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (33, 32), (100, 31)])
def test_an_image_of_any_size_has_a_prediction(method: FeatureGANomaly, size: tuple[int, int]) -> None:
    with eval_mode(method):
        prediction = method.predict(torch.zeros(1, 1, *size))
    assert torch.isfinite(prediction.score).all()
    assert prediction.anomaly_map is not None
    assert prediction.anomaly_map.shape == (1, *size)
    assert torch.isfinite(prediction.anomaly_map).all()


def test_a_signal_that_sees_defects_counts_more_than_one_that_does_not() -> None:
    normal, defective = noise(200, 2, seed=0), noise(200, 2, seed=1)
    defective[:, 0] += 1.5
    first, second = scoring._separating_weights(normal, defective).tolist()
    assert first > 4 * second
    assert first + second == pytest.approx(1)


def test_weights_come_from_synthetic_defects() -> None:
    """The first signal is the pixels' difference from gray, in which defects show; the second is chance alone."""
    signal_scoring = scoring.SignalScoring(2)
    random = torch.Generator().manual_seed(0)

    def signals_of(x: torch.Tensor) -> torch.Tensor:
        half = torch.nn.functional.avg_pool2d(x.abs(), 2)
        return torch.cat([half, torch.zeros_like(half)], dim=1) + 0.2 * torch.rand(2, 1, 1, generator=random)

    images = [0.01 * noise(1, 1, 64, 64, seed=seed) for seed in range(20)]
    signal_scoring.fit(signals_of, images, [None] * len(images), contrast=0.05)
    first, second = signal_scoring.weights.tolist()
    assert first > 0.9
    assert first + second == pytest.approx(1)


def test_signals_that_see_the_same_share_a_weight() -> None:
    normal, defective = noise(200, 2, seed=0), noise(200, 2, seed=1) + 1.5
    weights = scoring._separating_weights(normal[:, [0, 1, 1, 1]], defective[:, [0, 1, 1, 1]])
    first, *copies = weights.tolist()
    assert first > 2 * copies[0]


@pytest.mark.parametrize("separation", [0.0, 1e9])
def test_weights_are_equal_where_nothing_speaks_against(separation: float) -> None:
    weights = scoring._separating_weights(torch.zeros(5, 4), torch.full((5, 4), separation))
    torch.testing.assert_close(weights, torch.full((4,), 0.25))


def test_levels_of_strides_4_to_32_join_on_one_grid() -> None:
    networks = feature_networks.FeatureNetworks(
        describe_backbone("efficientnet-lite0", ["block2", "block4", "block10", "block14"]),
        width=8,
        discriminator_width=8,
        nz=4,
    )
    assert networks.latent(torch.zeros(2, 3, 50, 70)).shape == (2, 4, 4, 5)


def test_an_unknown_backbone_or_level_is_refused_in_words() -> None:
    for options in ({"backbone": "efficientnet-lite9"}, {"levels": "block99"}):
        with pytest.raises(UsageError):
            GANomalyDetector("features", epochs=1, method_options=options).fit(cloth(12, 70, 70))


def run(images: NDArray[np.uint8], **more: Any) -> TrainingResult:
    loader = load_images(images, scale=1.0)
    training = TrainingOptions(steps=5, batch_size=4, precision="fp32", checkpoint_seconds=0)
    return train(FeatureGANomaly, OPTIONS, PREPROCESSING, loader, loader.usable, training, **more)


@pytest.mark.parametrize("stop_at", [1, 4])
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


def test_a_model_file_holds_the_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = GANomalyDetector(
        "features", epochs=1, image_size=32, false_alarm_rate=0.3, method_options=OPTIONS.model_dump()
    ).fit(cloth(16, 70, 70))
    save_model(detector.model_, tmp_path / "m.safetensors")
    monkeypatch.setattr(
        feature_networks, "load_backbone", lambda *_: pytest.fail("a model file needs no pretrained weights")
    )
    loaded = load_model(tmp_path / "m.safetensors")
    x = noise(2, 1, 40, 50)
    with eval_mode(loaded.method), eval_mode(detector.model_.method):
        assert torch.equal(loaded.method.predict(x).score, detector.model_.method.predict(x).score)


def test_defects_raise_the_score_and_are_located() -> None:
    detector = GANomalyDetector(
        "features",
        epochs=20,
        image_size=64,
        false_alarm_rate=0.2,
        method_options={"ngf": 16, "ndf": 8, "nz": 8},
        seed=0,
    ).fit(cloth(40, 70, 90))
    normal, anomalous = cloth(12, 70, 90, seed=1), cloth(12, 70, 90, seed=2)
    anomalous[:, 30:38, 50:58] = 60
    normal_scores, scores = detector.anomaly_score(normal), detector.anomaly_score(anomalous)
    assert np.mean(scores[:, None] > normal_scores) > 0.9
    maxima = [np.unravel_index(detector.anomaly_map(image).argmax(), (70, 90)) for image in anomalous]
    assert sum(22 <= row < 46 and 42 <= column < 66 for row, column in maxima) >= 9
