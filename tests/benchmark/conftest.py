"""Data sets and networks small enough to run a grid on."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ganomaly.config import Preprocessing
from ganomaly.methods import METHODS, Method
from images import textures


def idx(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A tiny MNIST: stripes are all digits but 1, which has a blob."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, n, seed in (("train", 60, 0), ("t10k", 30, 1)):
        labels = np.arange(n, dtype=np.uint8) % 10
        images = textures(n, seed=seed, size=28)
        images[labels == 1] = textures(int((labels == 1).sum()), seed=seed, size=28, blob=True)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


@pytest.fixture
def untrained() -> Callable[[str], Method]:
    """Makes the method of a name, with small networks that take gray images of 32 px."""

    def make(name: str) -> Method:
        small = {"nz": 8, "ngf": 4, "ndf": 4}
        fields = METHODS[name].options_type.model_fields
        options = METHODS[name].options_type(
            **{option: value for option, value in small.items() if option in fields}
        )
        preprocessing = Preprocessing(image_size=32, channels=1)
        method = METHODS[name](options, preprocessing, torch.Generator().manual_seed(0))
        method.load_pretrained()
        return method

    return make
