"""What is usual at a place, and in an image of a size, is no anomaly."""

import torch

from ganomaly.methods.reference_statistics import PositionStatistics, SizeStatistics, top_k_mean


def noise(height: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(2, height, width, generator=torch.Generator().manual_seed(seed))


def test_a_rim_that_is_always_hot_is_usual_whatever_the_size() -> None:
    def image(seed: int) -> torch.Tensor:
        values = noise(40 + 7 * (seed % 5), 60 - 6 * (seed % 4), seed)
        values[:, :3] = values[:, :3] * 4 + 20
        return values

    statistics = PositionStatistics(2)
    statistics.learn([image(seed) for seed in range(40)])
    measured = statistics(image(99)[None])[0]
    assert abs(float(measured[:, :3].mean())) < 0.3
    assert 0.7 < float(measured[:, :3].std()) < 1.3
    assert abs(float(measured[:, 10:].mean())) < 0.1


def test_a_rim_that_is_hot_now_and_then_is_hardly_odd() -> None:
    def image(seed: int, hot: bool) -> torch.Tensor:
        values = noise(48, 60, seed)
        values[:, :3] += 20 * hot
        return values

    statistics = PositionStatistics(2)
    statistics.learn([image(seed, hot=seed % 10 == 0) for seed in range(60)])
    measured = statistics(image(99, hot=True)[None])[0]
    # by standard deviations it would be 3
    assert float(measured[:, :3].mean()) < 2.2
    assert 0.8 < float(measured[:, 12:].std()) < 1.2


def test_a_corner_that_is_always_hot_is_usual_where_images_lie_alike() -> None:
    def image(seed: int) -> torch.Tensor:
        values = noise(48, 48, seed)
        values[:, 24:40, 24:40] += 5
        return values

    statistics = PositionStatistics(2)
    statistics.learn([image(seed) for seed in range(20)])
    measured = statistics(image(99)[None])[0]
    assert float(measured[:, 28:36, 28:36].mean()) < 1


def test_an_odd_place_stands_out() -> None:
    statistics = PositionStatistics(2)
    statistics.learn([noise(32, 32, seed) for seed in range(20)])
    odd = noise(32, 32, 99)
    odd[:, 10, 10] = 9
    assert statistics(odd[None])[0, :, 10, 10].min() > 7


def test_large_normal_images_score_like_small_ones() -> None:
    statistics = SizeStatistics(2)
    statistics.learn(noise(120, 120, seed) for seed in range(20))
    small = torch.cat([statistics(noise(40, 40, seed)[None]) for seed in range(100, 140)])
    large = torch.cat([statistics(noise(300, 300, seed)[None]) for seed in range(200, 220)])
    assert small.shape == (40, 2)
    assert (small.mean(dim=0) - large.mean(dim=0)).abs().max() < 1.0
    # without the correction they are far apart
    assert top_k_mean(noise(300, 300, 1)[0]) > top_k_mean(noise(20, 20, 1)[0]) + 0.5


def test_scores_of_normal_images_vary_by_about_one() -> None:
    def spotted(side: int, seed: int) -> torch.Tensor:
        """A spot of any brightness somewhere, which a part of the image seldom shows."""
        values = noise(side, side, seed)
        random = torch.Generator().manual_seed(seed)
        row, column = torch.randint(side - 5, (2,), generator=random)
        values[:, row : row + 5, column : column + 5] += 20 * torch.rand(1, generator=random)
        return values

    statistics = SizeStatistics(2)
    statistics.learn(spotted(96, seed) for seed in range(60))
    scores = torch.cat([statistics(spotted(96, seed)[None]) for seed in range(100, 200)])
    assert (scores.std(dim=0) - 1).abs().max() < 0.2
    assert scores.mean(dim=0).abs().max() < 0.2
    assert (statistics.spread[:, -1] > 1.5 * statistics.spread[:, 0]).all()


def test_statistics_of_a_single_small_image_are_finite() -> None:
    places, size = PositionStatistics(2), SizeStatistics(2)
    image = noise(2, 3, 0)
    places.learn([image])
    size.learn([image])
    assert torch.isfinite(places(image[None])).all()
    assert torch.isfinite(size(image[None])).all()
