"""The discriminator's features do not depend on the batch, and are embedded in the same way each time."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ganomaly.benchmark.embedding import pooled_features, principal_components, tsne_positions
from ganomaly.methods import METHODS, Method
from ganomaly.prediction.pytorch import eval_mode

Untrained = Callable[[str], Method]


@pytest.mark.parametrize("name", METHODS)
def test_every_discriminator_gives_features_that_do_not_depend_on_the_batch(
    name: str, untrained: Untrained
) -> None:
    method = untrained(name)
    if pooled_features(method, torch.zeros(2, 1, 32, 32)) is None:
        assert not {"discriminator", "critic"} & dict(method.named_children()).keys()
        return
    x = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with eval_mode(method):
        together = pooled_features(method, x)
        alone = torch.cat([pooled_features(method, image[None]) for image in x])
    assert together.dim() == 2
    assert len(together) == 6
    assert together.std(dim=0).max() > 0
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["egbad", "contrastive-ganomaly", "skip-ganomaly", "f-anogan"])
def test_features_and_scores_give_the_discriminator_the_same_input(name: str, untrained: Untrained) -> None:
    method = untrained(name)
    discriminator = getattr(method, "critic", None) or method.discriminator
    x = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    method.fit_scales(x)  # a scale that is not the image's own
    inputs: list[tuple[torch.Tensor, ...]] = []
    discriminator.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments))
    with eval_mode(method):
        method.predict(x)
        scored = inputs[0]
        inputs.clear()
        pooled_features(method, x)
    torch.testing.assert_close(inputs[0], scored)


def test_images_of_any_size_give_the_same_number_of_features(untrained: Untrained) -> None:
    method = untrained("patch-ganomaly")
    with eval_mode(method):
        shapes = {pooled_features(method, torch.zeros(1, 1, *size)).shape for size in ((64, 96), (112, 80))}
    assert len(shapes) == 1


def test_the_embedding_repeats_and_separates_clusters() -> None:
    features = np.random.default_rng(0).normal(size=(40, 60)).astype(np.float32)
    features[20:] += 10
    components = principal_components(features)
    assert components is not None
    assert components.shape == (40, 40)
    positions = tsne_positions(components)
    np.testing.assert_array_equal(positions, tsne_positions(components))
    first, second = positions[:20], positions[20:]
    radius = max(np.linalg.norm(part - part.mean(axis=0), axis=1).max() for part in (first, second))
    assert np.linalg.norm(first.mean(axis=0) - second.mean(axis=0)) > radius


@pytest.mark.parametrize(
    "features",
    [np.ones((20, 4), np.float32), np.full((20, 4), np.nan, np.float32), np.eye(3, dtype=np.float32)],
    ids=["all the same", "not finite", "too few"],
)
def test_features_without_information_give_no_embedding(features: np.ndarray) -> None:
    assert principal_components(features) is None
