"""Views are crops in changed colours, and mirrored only where mirrored images are normal."""

import pytest
import torch

from ganomaly.methods.randomness import Randomness
from ganomaly.methods.views import mirror_invariant, random_views


def randomness(seed: int = 0) -> Randomness:
    return Randomness(torch.Generator().manual_seed(seed))


def ramps(n: int) -> torch.Tensor:
    """Noisy images that get brighter to the right."""
    noise = torch.rand(n, 1, 32, 32, generator=torch.Generator().manual_seed(2)) * 0.2
    return torch.linspace(-0.8, 0.6, 32).expand(n, 1, 32, 32) + noise


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_views_have_the_shape_of_the_images_and_differ(channels):
    x = torch.rand(5, channels, 32, 32) * 2 - 1
    views = random_views(torch.cat([x, x]), 0.3, True, randomness())
    assert views.shape == (10, channels, 32, 32)
    assert torch.isfinite(views).all()
    assert not torch.equal(views[:5], views[5:])


def test_the_same_random_state_draws_the_same_views():
    x = ramps(4)
    assert torch.equal(*(random_views(x, 0.3, True, randomness(3)) for _ in range(2)))
    assert not torch.equal(
        random_views(x, 0.3, True, randomness(3)), random_views(x, 0.3, True, randomness(4))
    )


@pytest.mark.parametrize("mirror", [True, False])
def test_views_are_mirrored_only_if_asked_for(mirror):
    views = random_views(ramps(64), 0.5, mirror, randomness())
    falling = views[..., -8:].mean(dim=(1, 2, 3)) < views[..., :8].mean(dim=(1, 2, 3))
    assert bool(falling.any()) == mirror
    assert not falling.all()


def test_mirror_invariance_is_seen_in_the_images():
    either_way = torch.cat([ramps(40), ramps(40).flip(3)])
    assert not mirror_invariant(ramps(40))
    assert mirror_invariant(either_way)
    assert not mirror_invariant(ramps(1))
