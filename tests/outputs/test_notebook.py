"""Notebooks show strips of images, and no wall of text."""

import re

import numpy as np
import pytest

from ganomaly.data import open_test_images
from ganomaly.evaluation import evaluate_model
from ganomaly.outputs.notebook import MOST_SHOWN


def test_predictions_are_strips_of_the_most_anomalous(detector, normal_images, anomalous_images):
    predictions = detector.predictions(np.concatenate([normal_images, anomalous_images]))
    html = predictions._repr_html_()
    scores = [float(score) for score in re.findall(r"A\(x\) = ([\d.e-]+)", html)]
    assert len(scores) == MOST_SHOWN
    assert scores == sorted(scores, reverse=True)
    assert max(prediction.score for prediction in predictions) == pytest.approx(scores[0], rel=1e-3)
    assert html.count("<img") == 4 * MOST_SHOWN  # image, reconstruction, difference, overlay
    assert len(html) < 200_000
    text = re.sub(r"<[^>]*>", " ", html)
    assert len(text.split()) < 20 * MOST_SHOWN


def test_a_slice_of_predictions_is_shown_alone(detector, anomalous_images):
    predictions = detector.predictions(anomalous_images)
    assert predictions[3].index == 3
    html = predictions[3:4]._repr_html_()
    assert "array[3]" in html
    assert html.count("<img") == 4


def test_names_of_files_cannot_be_markup_and_broken_ones_say_why(detector, tmp_path):
    (tmp_path / "<b>.png").write_bytes(b"no image")
    predictions = detector.predictions(tmp_path)
    html = predictions._repr_html_()
    assert "&lt;b&gt;.png is not an image" in html
    assert "<b>" not in html
    assert repr(predictions) == "<1 images, 0 anomalous, 1 could not be read>"


def test_an_evaluation_is_one_row_of_figures_and_a_histogram(detector, labelled_folder):
    evaluated = evaluate_model(detector.model_, open_test_images(labelled_folder))
    html = evaluated._repr_html_()
    assert f"<td>{evaluated.evaluation.image_auroc:.4g}</td>" in html
    assert html.count("<tr>") == 2
    assert "#ee6677" in html
    assert "None" not in html
