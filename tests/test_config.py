"""Every number that a user may choose has bounds, the same for `fit`, for Python and for files."""

import math
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from ganomaly import GANomalyDetector
from ganomaly.config import (
    CalibrationOptions,
    FitOptions,
    Options,
    Preprocessing,
    TrainingOptions,
)
from ganomaly.errors import UsageError
from ganomaly.methods import METHODS
from images import textures
from shell import ganomaly

ALL_OPTIONS: list[type[Options]] = [
    CalibrationOptions,
    FitOptions,
    Preprocessing,
    TrainingOptions,
    *(method.options_type for method in METHODS.values()),
]


def numbers() -> Iterator[tuple[type[Options], str, FieldInfo]]:
    for options in ALL_OPTIONS:
        for name, field in options.model_fields.items():
            if {int, float} & {field.annotation, *get_args(field.annotation)}:
                yield options, name, field


def bounds(field: FieldInfo) -> set[type]:
    """Which bounds a number has, also where they are part of its type."""
    parts = [*field.metadata, *(part for kind in get_args(field.annotation) for part in get_args(kind))]
    return {type(inner) for part in parts for inner in getattr(part, "metadata", [part])}


@pytest.mark.parametrize(
    ("options", "name", "field"), numbers(), ids=lambda value: getattr(value, "__name__", str(value))[:40]
)
def test_every_number_has_a_lower_and_an_upper_bound(options, name, field):
    assert bounds(field) & {Ge, Gt}, f"{options.__name__}.{name} has no lower bound"
    assert bounds(field) & {Le, Lt}, f"{options.__name__}.{name} has no upper bound"


def test_there_are_numbers_to_check():
    assert len(list(numbers())) > 70


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("method", METHODS)
def test_no_option_is_infinite_or_not_a_number(method, number):
    with pytest.raises(UsageError, match="learning rate"):
        METHODS[method].options_type.checked(learning_rate=number)


@pytest.mark.parametrize(
    ("chosen", "word"),
    [
        ({"image_size": "64"}, "image size"),
        ({"image_size": 64.0}, "image size"),
        ({"image_size": True}, "image size"),
        ({"image_size": 2**70}, "image size"),
        ({"image_size": 10**5000}, "image size"),
        ({"image_size": 10**9}, "image size"),
        ({"channels": -1}, "channels"),
        ({"channels": "3"}, "channels"),
        ({"epochs": 10**30}, "epochs"),
        ({"epochs": "3"}, "epochs"),
        ({"seed": -1}, "seed"),
        ({"seed": "0"}, "seed"),
        ({"false_alarm_rate": 1e-320}, "false alarm rate"),
        ({"false_alarm_rate": math.nan}, "false alarm rate"),
        ({"method_options": {"nz": 10**9}}, "nz"),
        ({"method_options": {"ngf": 10**9}}, "ngf"),
        ({"method_options": {"extra_layers": 10**6}}, "extra layers"),
    ],
)
def test_a_number_that_cannot_be_gets_one_sentence(chosen, word):
    with pytest.raises(UsageError, match=word) as caught:
        GANomalyDetector("paper", **({"epochs": 1} | chosen)).fit(textures(30))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_whole_numbers_of_numpy_are_whole_numbers():
    options: dict[str, Any] = {"image_size": np.int64(64), "channels": np.uint8(1), "epochs": np.int32(2)}
    chosen = FitOptions.checked(**options, seed=np.int64(5))
    assert (chosen.image_size, chosen.channels, chosen.epochs, chosen.seed) == (64, 1, 2, 5)


@pytest.mark.parametrize("preset", ["paper", "patches", "auto"])
def test_an_image_size_that_cannot_be_gets_one_sentence_in_the_shell(preset, normal_folder, tmp_path):
    options = ["--preset", preset, "--model", tmp_path / "m.safetensors", "--image-size"]
    done = ganomaly("fit", normal_folder, *options, 1_000_000_000)
    assert (done.returncode, "image size" in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
