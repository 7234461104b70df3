"""What normal images show at a position, or in an image of that size, is no anomaly."""

import torch

from ganomaly.methods.reference_statistics import PositionStatistics, SizeStatistics, top_k_mean


def noise(height: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(2, height, width, generator=torch.Generator().manual_seed(seed))


def test_a_rim_that_is_always_high_is_normal_in_images_of_any_size() -> None:
    def image(seed: int) -> torch.Tensor:
        values = noise(40 + 7 * (seed % 5), 60 - 6 * (seed % 4), seed)
        values[:, :3] = values[:, :3] * 4 + 20
        return values

    statistics = PositionStatistics(2)
    statistics.fit([image(seed) for seed in range(40)])
    standardised = statistics(image(99)[None])[0]
    assert abs(float(standardised[:, :3].mean())) < 0.3
    assert 0.7 < float(standardised[:, :3].std()) < 1.3
    assert abs(float(standardised[:, 10:].mean())) < 0.1


def test_a_rim_that_is_rarely_high_is_hardly_anomalous() -> None:
    def image(seed: int, high: bool) -> torch.Tensor:
        values = noise(48, 60, seed)
        values[:, :3] += 20 * high
        return values

    statistics = PositionStatistics(2)
    statistics.fit([image(seed, high=seed % 10 == 0) for seed in range(60)])
    standardised = statistics(image(99, high=True)[None])[0]
    # with the standard deviation as scale it would be 3
    assert float(standardised[:, :3].mean()) < 2.2
    assert 0.8 < float(standardised[:, 12:].std()) < 1.2


def test_a_corner_that_is_always_high_is_normal_in_aligned_images() -> None:
    def image(seed: int) -> torch.Tensor:
        values = noise(48, 48, seed)
        values[:, 24:40, 24:40] += 5
        return values

    statistics = PositionStatistics(2)
    statistics.fit([image(seed) for seed in range(20)])
    standardised = statistics(image(99)[None])[0]
    assert float(standardised[:, 28:36, 28:36].mean()) < 1


def test_a_position_far_above_normal_has_a_high_score() -> None:
    statistics = PositionStatistics(2)
    statistics.fit([noise(32, 32, seed) for seed in range(20)])
    anomalous = noise(32, 32, 99)
    anomalous[:, 10, 10] = 9
    assert statistics(anomalous[None])[0, :, 10, 10].min() > 7


def test_large_normal_images_score_like_small_ones() -> None:
    statistics = SizeStatistics(2)
    statistics.fit(noise(120, 120, seed) for seed in range(20))
    small = torch.cat([statistics(noise(40, 40, seed)[None]) for seed in range(100, 140)])
    large = torch.cat([statistics(noise(300, 300, seed)[None]) for seed in range(200, 220)])
    assert small.shape == (40, 2)
    assert (small.mean(dim=0) - large.mean(dim=0)).abs().max() < 1.0
    # without the correction they differ
    assert top_k_mean(noise(300, 300, 1)[0]) > top_k_mean(noise(20, 20, 1)[0]) + 0.5


def test_scores_of_normal_images_have_mean_0_and_standard_deviation_1() -> None:
    def with_spot(side: int, seed: int) -> torch.Tensor:
        """A spot of random brightness at a random position, which few parts of the image contain."""
        values = noise(side, side, seed)
        random = torch.Generator().manual_seed(seed)
        row, column = torch.randint(side - 5, (2,), generator=random)
        values[:, row : row + 5, column : column + 5] += 20 * torch.rand(1, generator=random)
        return values

    statistics = SizeStatistics(2)
    statistics.fit(with_spot(96, seed) for seed in range(60))
    scores = torch.cat([statistics(with_spot(96, seed)[None]) for seed in range(100, 200)])
    assert (scores.std(dim=0) - 1).abs().max() < 0.2
    assert scores.mean(dim=0).abs().max() < 0.2
    assert (statistics.std[:, -1] > 1.5 * statistics.std[:, 0]).all()


def test_statistics_of_a_single_small_image_are_finite() -> None:
    positions, sizes = PositionStatistics(2), SizeStatistics(2)
    image = noise(2, 3, 0)
    positions.fit([image])
    sizes.fit([image])
    assert torch.isfinite(positions(image[None])).all()
    assert torch.isfinite(sizes(image[None])).all()
