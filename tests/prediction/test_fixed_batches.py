"""With batches of fixed size an image has the same score bit for bit, as the service and `ganomaly score` need."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ganomaly.data import ImageArrays
from ganomaly.prediction import load_predictor
from ganomaly.prediction.loop import fixed_batch_size

MODELS = Path(__file__).parent / "models"
FILES = sorted([*MODELS.glob("*.safetensors"), *MODELS.glob("*.onnx")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_score_of_an_image_is_the_same_bit_for_bit_whatever_is_beside_it(path: Path) -> None:
    model = load_predictor(path)
    size, channels = model.preprocessing.image_size, model.preprocessing.channels
    images = np.random.default_rng(0).integers(0, 256, (20, size, size, channels), dtype=np.uint8)

    def scores(some: NDArray[np.uint8]) -> list[float | None]:
        return [each.score for each in model.predict(ImageArrays(some), fixed_batches=True)]

    together = scores(images)
    assert [s for start in range(0, 18, 3) for s in scores(images[start : start + 3])] == together[:18]
    assert scores(images[7:8]) == together[7:8]
    assert scores(images[::-1]) == together[::-1]


@pytest.mark.parametrize(("side", "n"), [(16, 64), (32, 64), (64, 16), (128, 4), (256, 1), (1024, 1)])
def test_a_fixed_batch_has_fewer_images_the_larger_they_are(side: int, n: int) -> None:
    preprocessing = load_predictor(MODELS / "paper.safetensors").preprocessing
    assert fixed_batch_size(preprocessing.model_copy(update={"image_size": side})) == n
