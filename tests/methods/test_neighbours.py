"""A feature is judged by how far the nearest normal ones are, and how far those are from each other."""

import numpy as np
import torch

from ganomaly.methods.neighbours import NeighbourBank


def cloud(n: int, spread: float, centre: float, seed: int) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) * spread + centre


def as_features(rows: torch.Tensor) -> torch.Tensor:
    return rows.t()[:, None]  # [K, 1, n]


def test_the_ratio_is_that_of_plain_nearest_neighbours() -> None:
    images = [cloud(32, 1, 0, seed) for seed in range(3)]
    asked = cloud(10, 3, 0, 9)
    bank = NeighbourBank(2, 96)
    bank.learn([as_features(image) for image in images], torch.Generator().manual_seed(0))
    found = bank(as_features(asked)[None]).flatten().numpy()

    rows = torch.cat(images).numpy()
    image = np.repeat(np.arange(3), 32)
    covariance = np.cov(rows.T)
    covariance += 1e-2 * np.trace(covariance) / 2 * np.eye(2)
    inverse = np.linalg.inv(covariance)

    def distances(points: np.ndarray) -> np.ndarray:
        difference = points[:, None] - rows
        return np.sqrt(np.einsum("abi,ij,abj->ab", difference, inverse, difference))

    among = np.where(image[:, None] == image, np.inf, distances(rows))
    apart = np.sort(among)[:, :3].mean(axis=1)
    kept = torch.randperm(96, generator=torch.Generator().manual_seed(0)).numpy()  # in the order of the bank
    ratios = (distances(asked.numpy()) ** 2 / np.maximum(apart, 0.1 * apart.mean()))[:, kept]
    expected = np.sqrt(ratios.reshape(10, 4, 24).min(axis=2).mean(axis=1))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_what_lies_off_a_dense_cloud_is_farther_out_than_what_lies_in_a_thin_one() -> None:
    dense, thin = cloud(200, 0.05, 0, 0), cloud(200, 2, 20, 1)
    bank = NeighbourBank(2, 400)
    mixed = [torch.cat([dense[part::4], thin[part::4]]) for part in range(4)]
    bank.learn([as_features(image) for image in mixed], torch.Generator().manual_seed(0))
    off_dense, in_thin = torch.tensor([[0.6, 0.0]]), torch.tensor([[20.5, 20.5]])
    assert bank(as_features(off_dense)[None]) > 3 * bank(as_features(in_thin)[None])


def test_a_bank_larger_than_what_there_is_is_filled() -> None:
    bank = NeighbourBank(2, 52)
    bank.learn([as_features(cloud(5, 1, 0, 0))], torch.Generator().manual_seed(0))
    assert torch.isfinite(bank(as_features(cloud(4, 1, 0, 1))[None])).all()


def test_where_normal_features_coincide_rounding_does_not_decide() -> None:
    flat, textured = torch.full((300, 2), 5.0), cloud(300, 1, 0, 0)
    images = [torch.cat([flat[part::3], textured[part::3]]) for part in range(3)]
    bank = NeighbourBank(2, 600)
    bank.learn([as_features(image) for image in images], torch.Generator().manual_seed(0))
    nearly_flat = torch.full((1, 2), 5.0 + 1e-5)
    assert bank(as_features(nearly_flat)[None]) < 0.1
