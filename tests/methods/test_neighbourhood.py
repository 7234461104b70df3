"""Distances are those to the nearest normal features, and those between them, as scikit-learn finds them."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from ganomaly.methods.neighbourhood import NEIGHBOURS, RIDGE, SURROUNDINGS, Neighbourhood


def cloud(n: int, seed: int, channels: int = 6) -> torch.Tensor:
    rows = torch.randn(n, channels, generator=torch.Generator().manual_seed(seed))
    return rows * torch.tensor([3.0, 2, 1, 1, 0.5, 0.1])[:channels] + 1


def on_the_sphere(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ratio(normal: np.ndarray, asked: np.ndarray) -> np.ndarray:
    found = NearestNeighbors(n_neighbors=SURROUNDINGS).fit(normal)
    apart = found.kneighbors(n_neighbors=NEIGHBOURS)[0].mean(axis=1)
    distance, around = found.kneighbors(asked)
    return distance[:, :NEIGHBOURS].mean(axis=1) / np.sqrt(apart[around].mean(axis=1))


def learnt(normal: torch.Tensor, dimensions: int, whiten: bool) -> Neighbourhood:
    neighbourhood = Neighbourhood(normal.shape[1], dimensions, whiten)
    neighbourhood.learn(normal)
    return neighbourhood


def test_without_whitening_they_are_between_directions():
    normal, asked = cloud(400, 0), cloud(700, 1)
    expected = ratio(on_the_sphere(normal.numpy()), on_the_sphere(asked.numpy()))
    np.testing.assert_allclose(learnt(normal, 6, False)(asked).numpy(), expected, rtol=1e-4)


def test_with_whitening_all_principal_directions_count_alike():
    normal, asked = cloud(400, 0), cloud(50, 1)
    rows, other = (on_the_sphere(each.double().numpy()) for each in (normal, asked))
    pca = PCA(4).fit(rows)
    variance = pca.explained_variance_ * (len(rows) - 1) / len(rows)
    scale = np.sqrt(variance + RIDGE * variance.mean())
    expected = ratio(
        *(on_the_sphere(projected / scale) for projected in (pca.transform(rows), pca.transform(other)))
    )
    np.testing.assert_allclose(learnt(normal, 4, True)(asked).numpy(), expected, rtol=1e-3)


@pytest.mark.parametrize("n", [1, 2, 5, 21])
@pytest.mark.parametrize("whiten", [False, True])
def test_few_normal_images_are_enough_for_a_finite_answer(n, whiten):
    distance = learnt(cloud(n, 0), 4, whiten)(cloud(3, 1))
    assert torch.isfinite(distance).all()
    assert (distance >= 0).all()


def test_the_same_image_many_times_does_no_harm():
    assert torch.isfinite(learnt(cloud(1, 0).repeat(60, 1), 6, True)(cloud(4, 1))).all()


def test_the_state_holds_what_was_kept_and_no_more():
    known, loaded = learnt(cloud(30, 0), 4, True), Neighbourhood(6, 4, True)
    loaded.load_state_dict(known.state_dict())
    assert len(loaded.bank) == len(loaded.apart) == 30
    torch.testing.assert_close(loaded(cloud(5, 1)), known(cloud(5, 1)), rtol=0, atol=0)


@pytest.mark.parametrize(
    "changed",
    [
        {"bank": torch.zeros(30, 3)},
        {"bank": torch.zeros(0, 4)},
        {"bank": torch.zeros(())},
        {"apart": torch.ones(5)},
        {"bank": torch.zeros(0, 4), "apart": torch.ones(0)},
    ],
)
def test_a_state_whose_parts_do_not_fit_is_refused(changed):
    with pytest.raises(RuntimeError, match="size mismatch"):
        Neighbourhood(6, 4, True).load_state_dict(learnt(cloud(30, 0), 4, True).state_dict() | changed)
