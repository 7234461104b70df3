"""A trial gets a share of the images, evenly from all that are not held out."""

import pytest

from ganomaly.data import inspect_images, open_training_images
from ganomaly.tuning.objective import FEWEST_IMAGES, MOST_HELD_OUT, Objective
from images import textures

N_IMAGES = 360
NOT_HELD_OUT = N_IMAGES - MOST_HELD_OUT


@pytest.mark.parametrize(
    ("budget", "expected"), [(1, NOT_HELD_OUT), (0.5, NOT_HELD_OUT // 2), (0.01, FEWEST_IMAGES)]
)
def test_a_trial_gets_a_share_of_the_images(budget, expected):
    dataset = open_training_images(textures(N_IMAGES))
    objective = Objective.of(dataset, inspect_images(dataset), seed=0, budget=budget)
    assert len(objective.training) == expected
    assert objective.n_training == NOT_HELD_OUT
    names = [record.path for record in objective.training.records]
    assert len(set(names)) == expected
    assert not set(names) & {record.path for record in objective.held_out.records}
    everything = [record.path for record in dataset.records]
    gaps = [everything.index(name) for name in names]
    assert gaps[0] < N_IMAGES // 20
    assert gaps[-1] > N_IMAGES - N_IMAGES // 20


def test_all_of_few_images_are_used():
    dataset = open_training_images(textures(40))
    objective = Objective.of(dataset, inspect_images(dataset), seed=0, budget=0.1)
    assert len(objective.training) + len(objective.held_out) == 40
