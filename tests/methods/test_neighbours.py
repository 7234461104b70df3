"""Distances to the nearest normal features, over their local scale, as NumPy and scikit-learn compute them."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from ganomaly.methods.neighbours import (
    DENSITY_NEIGHBOURS,
    IMAGE_RIDGE,
    NEIGHBOURS,
    ImageMemoryBank,
    PositionMemoryBank,
    nearest_neighbours,
)


def cluster(n: int, std: float, centre: float, seed: int) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) * std + centre


def as_feature_map(rows: torch.Tensor) -> torch.Tensor:
    return rows.t()[:, None]  # [K, 1, n]


def position_bank(images: list[torch.Tensor], size: int) -> PositionMemoryBank:
    bank = PositionMemoryBank(2, size)
    bank.fit([as_feature_map(image) for image in images], torch.Generator().manual_seed(0))
    return bank


def test_nearest_neighbours_are_those_of_scikit_learn() -> None:
    bank, queries = (
        torch.randn(n, 5, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        for n in (300, 1100)
    )
    indices = nearest_neighbours(queries, bank, bank.square().sum(dim=1) / 2, 7)
    expected = NearestNeighbors(n_neighbors=7).fit(bank.numpy()).kneighbors(queries.numpy())[1]
    np.testing.assert_array_equal(indices.numpy(), expected)


def test_features_of_the_same_group_are_no_neighbours() -> None:
    bank = torch.randn(1100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    groups = torch.arange(1100) % 4
    indices = nearest_neighbours(bank, bank, bank.square().sum(dim=1) / 2, 5, groups)
    distance = torch.cdist(bank, bank).masked_fill(groups[:, None] == groups, torch.inf)
    assert torch.equal(indices, distance.topk(5, largest=False).indices)


def test_the_distance_of_a_position_is_that_of_plain_nearest_neighbours() -> None:
    images = [cluster(32, 1, 0, seed) for seed in range(3)]
    queries = cluster(10, 3, 0, 9)
    result = position_bank(images, 96)(as_feature_map(queries)[None]).flatten().numpy()

    rows = torch.cat(images).numpy()
    image = np.repeat(np.arange(3), 32)
    covariance = np.cov(rows.T)
    covariance += 1e-2 * np.trace(covariance) / 2 * np.eye(2)
    inverse = np.linalg.inv(covariance)

    def distances(points: np.ndarray) -> np.ndarray:
        difference = points[:, None] - rows
        return np.sqrt(np.einsum("abi,ij,abj->ab", difference, inverse, difference))

    among = np.where(image[:, None] == image, np.inf, distances(rows))
    local_scale = np.sort(among)[:, :3].mean(axis=1)
    order = torch.randperm(96, generator=torch.Generator().manual_seed(0)).numpy()  # of the bank
    ratios = (distances(queries.numpy()) ** 2 / np.maximum(local_scale, 0.1 * local_scale.mean()))[:, order]
    expected = np.sqrt(ratios.reshape(10, 4, 24).min(axis=2).mean(axis=1))
    np.testing.assert_allclose(result, expected, rtol=1e-3)


def test_a_feature_beside_a_dense_cluster_is_farther_than_one_within_a_sparse_cluster() -> None:
    dense, sparse = cluster(200, 0.05, 0, 0), cluster(200, 2, 20, 1)
    bank = position_bank([torch.cat([dense[part::4], sparse[part::4]]) for part in range(4)], 400)
    beside_dense, within_sparse = torch.tensor([[0.6, 0.0]]), torch.tensor([[20.5, 20.5]])
    assert bank(as_feature_map(beside_dense)[None]) > 3 * bank(as_feature_map(within_sparse)[None])


def test_a_bank_with_room_for_more_positions_than_there_are_is_filled() -> None:
    bank = position_bank([cluster(5, 1, 0, 0)], 52)
    assert torch.isfinite(bank(as_feature_map(cluster(4, 1, 0, 1))[None])).all()


def test_rounding_does_not_decide_where_normal_features_coincide() -> None:
    flat, textured = torch.full((300, 2), 5.0), cluster(300, 1, 0, 0)
    bank = position_bank([torch.cat([flat[part::3], textured[part::3]]) for part in range(3)], 600)
    nearly_flat = torch.full((1, 2), 5.0 + 1e-5)
    assert bank(as_feature_map(nearly_flat)[None]) < 0.1


def features(n: int, seed: int, channels: int = 6) -> torch.Tensor:
    rows = torch.randn(n, channels, generator=torch.Generator().manual_seed(seed))
    return rows * torch.tensor([3.0, 2, 1, 1, 0.5, 0.1])[:channels] + 1


def on_the_sphere(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def distance_over_local_scale(normal: np.ndarray, queries: np.ndarray) -> np.ndarray:
    search = NearestNeighbors(n_neighbors=DENSITY_NEIGHBOURS).fit(normal)
    local_scale = search.kneighbors(n_neighbors=NEIGHBOURS)[0].mean(axis=1)
    distance, neighbours = search.kneighbors(queries)
    return distance[:, :NEIGHBOURS].mean(axis=1) / np.sqrt(local_scale[neighbours].mean(axis=1))


def image_bank(normal: torch.Tensor, axes: int, whiten: bool) -> ImageMemoryBank:
    bank = ImageMemoryBank(normal.shape[1], axes, whiten=whiten)
    bank.fit(normal)
    return bank


def test_without_whitening_images_are_compared_by_direction():
    normal, queries = features(400, 0), features(700, 1)
    expected = distance_over_local_scale(on_the_sphere(normal.numpy()), on_the_sphere(queries.numpy()))
    np.testing.assert_allclose(image_bank(normal, 6, False)(queries).numpy(), expected, rtol=1e-4)


def test_with_whitening_all_principal_axes_count_the_same():
    normal, queries = features(400, 0), features(50, 1)
    rows, query_rows = (on_the_sphere(points.double().numpy()) for points in (normal, queries))
    pca = PCA(4).fit(rows)
    variance = pca.explained_variance_ * (len(rows) - 1) / len(rows)
    scale = np.sqrt(variance + IMAGE_RIDGE * variance.mean())
    expected = distance_over_local_scale(
        *(on_the_sphere(pca.transform(points) / scale) for points in (rows, query_rows))
    )
    np.testing.assert_allclose(image_bank(normal, 4, True)(queries).numpy(), expected, rtol=1e-3)


@pytest.mark.parametrize("n", [1, 2, 5, 21])
@pytest.mark.parametrize("whiten", [False, True])
def test_few_normal_images_are_enough_for_a_finite_distance(n, whiten):
    distance = image_bank(features(n, 0), 4, whiten)(features(3, 1))
    assert torch.isfinite(distance).all()
    assert (distance >= 0).all()


def test_copies_of_one_image_give_finite_distances():
    assert torch.isfinite(image_bank(features(1, 0).repeat(60, 1), 6, True)(features(4, 1))).all()


def test_a_bank_loads_a_state_of_any_number_of_images():
    bank, loaded = image_bank(features(30, 0), 4, True), ImageMemoryBank(6, 4, whiten=True)
    loaded.load_state_dict(bank.state_dict())
    assert len(loaded.features) == len(loaded.local_scale) == 30
    torch.testing.assert_close(loaded(features(5, 1)), bank(features(5, 1)), rtol=0, atol=0)


@pytest.mark.parametrize(
    "changed",
    [
        {"features": torch.zeros(30, 3)},
        {"features": torch.zeros(0, 4)},
        {"features": torch.zeros(())},
        {"local_scale": torch.ones(31)},
        {"features": torch.zeros(0, 4), "local_scale": torch.ones(0)},
    ],
)
def test_a_state_whose_shapes_do_not_fit_is_refused(changed):
    state = image_bank(features(30, 0), 4, True).state_dict()
    with pytest.raises(RuntimeError, match="size mismatch"):
        ImageMemoryBank(6, 4, whiten=True).load_state_dict(state | changed)
