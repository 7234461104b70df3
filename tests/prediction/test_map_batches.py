"""Scores of batches of columns, without Ray: what Ray passes to the class is a dictionary."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganomaly.data import open_images
from ganomaly.errors import UsageError
from ganomaly.prediction import load_predictor
from ganomaly.prediction.map_batches import ImageScorer
from images import textures, write_images


def test_encoded_images_arrays_and_paths_have_the_scores_of_score(model_path: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", images := textures(5, seed=2))
    paths = sorted(folder.iterdir())
    contents = [path.read_bytes() for path in paths]
    predictor = load_predictor(model_path)
    expected = [p.score for p in predictor.predict(open_images(folder), fixed_batches=True)]
    scorer = ImageScorer(model_path)
    names = np.array([str(path) for path in paths], dtype=object)
    for batch in (
        {"bytes": np.array(contents, dtype=object), "path": names},
        {"image": images, "part": np.arange(5)},
        {"path": names},
    ):
        table = scorer(batch)
        assert table["score"].to_pylist() == expected
        assert table["error"].null_count == 5
        assert set(table.column_names) >= batch.keys() - {"bytes", "image"}


def test_an_image_that_cannot_be_read_is_a_row_with_its_error(model_path: Path) -> None:
    table = ImageScorer(model_path)({"bytes": [b"broken"], "path": ["a.png"]})
    assert table["error"].to_pylist()[0].startswith("a.png is not an image")
    assert table["is_anomaly"].to_pylist() == [None]


def test_a_path_that_leads_to_several_images_is_refused(model_path: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", images := textures(2, seed=2))
    pages = [Image.fromarray(image) for image in images]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    single = str(next(folder.iterdir()))
    with pytest.raises(UsageError, match=r"pages\.tif holds 2 images, and a row of a batch is one"):
        ImageScorer(model_path)({"path": [single, str(tmp_path / "pages.tif")]})


def test_a_batch_without_images_says_what_is_needed(model_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs a column bytes, image or path, and has label"):
        ImageScorer(model_path)({"label": [1]})
