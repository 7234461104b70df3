"""Random numbers that are the same in a resumed run."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from ganomaly.methods.randomness import Randomness

CPU = torch.device("cpu")


def source(seed: int = 0) -> Randomness:
    return Randomness(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_draws_follow_from_the_seed_and_differ_from_each_other(kind):
    first, repeated, other = (getattr(source(seed), kind) for seed in (0, 0, 1))
    numbers = first((3, 2), CPU)
    assert numbers.dtype == torch.float32
    assert torch.equal(numbers, repeated((3, 2), CPU))
    assert not torch.equal(numbers, first((3, 2), CPU))
    assert not torch.equal(numbers, other((3, 2), CPU))


def test_no_other_source_of_randomness_is_touched_or_matters():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    numbers = source().normal((4,), CPU)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(numbers, source().normal((4,), CPU))


def test_the_state_dict_of_the_module_around_it_carries_the_state():
    whole, resumed = nn.ModuleDict({"randomness": source()}), nn.ModuleDict({"randomness": source(7)})
    whole["randomness"].normal((5,), CPU)
    whole["randomness"].uniform((5,), CPU)
    state = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    resumed.load_state_dict(copy.deepcopy(state))
    assert torch.equal(whole["randomness"].normal((5,), CPU), resumed["randomness"].normal((5,), CPU))


def test_the_distributions_are_those_named():
    randomness = source()
    normal = randomness.normal((100_000,), CPU).numpy()
    uniform = randomness.uniform((100_000,), CPU).numpy()
    assert np.mean(normal) == pytest.approx(0, abs=0.02)
    assert np.std(normal) == pytest.approx(1, abs=0.02)
    assert 0 <= uniform.min() < 0.001
    assert 0.999 < uniform.max() < 1
