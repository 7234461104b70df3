"""GANomaly for small images: its loss, its score, and what it promises beyond the contract of all methods."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional

from ganomaly.config import Preprocessing, TrainingOptions
from ganomaly.methods.contrastive_ganomaly import (
    BACKBONE_WEIGHT,
    SIGNAL_WEIGHTS,
    ContrastiveGANomaly,
    ContrastiveGANomalyOptions,
    contrastive_loss,
)
from ganomaly.metrics import image_auroc
from ganomaly.networks.backbones import DEFAULT_BACKBONE, load_backbone
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.training.loop import train
from images import load_images

OPTIONS = ContrastiveGANomalyOptions(nz=8, ngf=4, ndf=8, embedding=16)


def make(size: int = 32) -> ContrastiveGANomaly:
    preprocessing = Preprocessing(image_size=size, channels=1)
    return ContrastiveGANomaly(OPTIONS, preprocessing, torch.Generator().manual_seed(0))


def kinds_of_images(kinds: list[int], n: int, seed: int = 0) -> np.ndarray:
    """Bars at random heights, `uint8[N, 32, 32]`; the kind is their number."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 40, (n * len(kinds), 32, 32))
    for image, kind in zip(images, np.repeat(kinds, n), strict=True):
        for _ in range(kind):
            top = random.integers(0, 29)
            image[top : top + 3, 4:28] = 220
    return images.astype(np.uint8)


def as_input(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).float()[:, None] / 127.5 - 1


def test_the_contrastive_loss_is_that_of_simclr():
    embedding = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    rows = embedding.double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    losses = []
    for i in range(6):
        similarity = np.exp(rows @ rows[i] / 0.3)
        losses.append(-math.log(similarity[(i + 3) % 6] / (similarity.sum() - similarity[i])))
    assert float(contrastive_loss(embedding, 0.3)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_score_is_the_weighted_mean_of_the_standardised_signals():
    method = make().eval()
    with torch.no_grad():
        method.fit_statistics([as_input(kinds_of_images([1, 2], 30))])
        x = as_input(kinds_of_images([3], 4))
        features, embedding, difference, _, pretrained = method._outputs(x)
        assert pretrained is None
        plain, whitened, embedded = method.banks
        signals = [plain(features), whitened(features), embedded(embedding), difference]
        weighted = [
            (signal.log() - method.reference_mean[i]) / method.reference_std[i] * SIGNAL_WEIGHTS[i]
            for i, signal in enumerate(signals)
        ]
        expected = functional.softplus(torch.stack(weighted).sum(dim=0) / sum(SIGNAL_WEIGHTS))
        torch.testing.assert_close(method.predict(x).score, expected)


def test_with_a_backbone_the_distance_of_its_features_counts_twice_as_much_as_that_of_all_of_the_discriminators():
    options = OPTIONS.model_copy(update={"backbone": DEFAULT_BACKBONE})
    preprocessing = Preprocessing(image_size=32, channels=1)
    method = ContrastiveGANomaly(options, preprocessing, torch.Generator().manual_seed(0)).eval()
    method.load_pretrained()
    assert not any(parameter.requires_grad for parameter in method.backbone.parameters())
    x = as_input(kinds_of_images([3], 4))
    with torch.no_grad():
        method.fit_statistics([as_input(kinds_of_images([1, 2], 20))])
        outputs = method._outputs(x)
        enlarged = functional.interpolate(x, size=(128, 128), mode="bilinear")
        (expected,) = load_backbone(DEFAULT_BACKBONE, ["block15"])(enlarged, ["block15"])
        torch.testing.assert_close(outputs.pretrained, expected.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)
        signals = [
            method.banks[0](outputs.features),
            method.banks[1](outputs.features),
            method.banks[2](outputs.embedding),
            outputs.difference,
            method.banks[3](outputs.pretrained),
        ]
        weights = torch.tensor([*SIGNAL_WEIGHTS, BACKBONE_WEIGHT])
        above = (torch.stack(signals, dim=1).log() - method.reference_mean) / method.reference_std
        score = functional.softplus(above @ weights / weights.sum())
        torch.testing.assert_close(method.predict(x).score, score, rtol=1e-4, atol=1e-5)


def test_pretrained_features_are_means_over_the_image_and_its_mirror_image_where_those_are_normal():
    options = OPTIONS.model_copy(update={"backbone": DEFAULT_BACKBONE})
    preprocessing = Preprocessing(image_size=32, channels=1)
    method = ContrastiveGANomaly(options, preprocessing, torch.Generator().manual_seed(0)).eval()
    method.load_pretrained()
    x = as_input(kinds_of_images([3], 4))
    with torch.no_grad():
        alone, mirrored = (method._outputs(image).pretrained for image in (x, x.flip(3)))
        assert not torch.allclose(alone, mirrored, rtol=1e-3)
        method.mirror.fill_(True)
        both = method._outputs(x).pretrained
    torch.testing.assert_close(both, (alone + mirrored) / 2, rtol=1e-4, atol=1e-5)


def test_reference_means_come_from_images_that_are_not_in_the_bank():
    method = make().eval()
    images = as_input(kinds_of_images([1, 2], 30))
    with torch.no_grad():
        method.fit_statistics(torch.split(images, 16))
        plain = method.banks[0]
        assert len(plain.features) == 50
        distances = plain(method._outputs(images[:10])[0])
    torch.testing.assert_close(method.reference_mean[0], distances.log().mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("mirror", "discriminator_passes"), [(False, 1), (True, 2)])
def test_a_prediction_runs_each_network_once_and_the_discriminator_on_mirrored_images_where_they_are_normal(
    mirror, discriminator_passes
):
    method = make().eval()
    method.mirror.fill_(mirror)
    passes: Counter[str] = Counter()
    for name, network in method.named_children():
        network.register_forward_hook(lambda *_, name=name: passes.update([name]))
    with torch.no_grad():
        method.predict(torch.zeros(3, 1, 32, 32))
    assert passes["encoder"] == passes["decoder"] == passes["reconstruction_encoder"] == 1
    assert passes["discriminator"] == discriminator_passes


@pytest.mark.parametrize("n", [1, 2, 7])
def test_few_images_are_enough_for_finite_scores(n):
    method = make().eval()
    with torch.no_grad():
        method.fit_statistics([as_input(kinds_of_images([1], n))])
        scores = method.predict(as_input(kinds_of_images([1, 5], 3))).score
    assert torch.isfinite(scores).all()
    assert (scores >= 0).all()


def test_the_score_of_an_image_does_not_depend_on_its_batch_once_statistics_are_fitted():
    method = make().eval()
    images = as_input(kinds_of_images([1, 2, 3], 40))
    with eval_mode(method):
        method.fit_statistics([images])
        together = method.predict(images).score.numpy()
        alone = np.concatenate([method.predict(image[None]).score.numpy() for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_scores_of_nearly_identical_images_do_not_depend_on_the_batch():
    method = make().eval()
    random = np.random.default_rng(0)
    images = as_input(kinds_of_images([3], 1) * 0.8 + random.normal(20, 4, (90, 32, 32)))
    with eval_mode(method):
        method.fit_statistics([images])
        together = method.predict(images).score.numpy()
        alone = np.concatenate([method.predict(image[None]).score.numpy() for image in images])
    np.testing.assert_allclose(together, alone, rtol=2e-4)


def test_larger_images_get_narrower_networks():
    weights = [sum(p.numel() for p in make(size).discriminator.parameters()) for size in (32, 64)]
    assert weights[1] < 1.5 * weights[0]


def test_images_of_another_kind_score_higher_after_a_short_training():
    normal = kinds_of_images([1, 4], 150)
    loader = load_images(normal)
    training = TrainingOptions(steps=60, batch_size=32, precision="fp32")
    preprocessing = Preprocessing(image_size=32, channels=1)
    method = train(ContrastiveGANomaly, OPTIONS, preprocessing, loader, loader.usable, training).method
    upright = kinds_of_images([4], 30, seed=2).swapaxes(1, 2)
    test = np.concatenate([kinds_of_images([1, 4], 30, seed=1), kinds_of_images([0], 30, seed=2), upright])
    with eval_mode(method):
        scores = method.predict(as_input(test)).score.numpy()
    assert image_auroc(scores, np.repeat([False, True], 60)) > 0.9
