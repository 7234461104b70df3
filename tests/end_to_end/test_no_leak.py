"""Nothing about the test images reaches the model, the threshold or a score."""

import shutil

import numpy as np
import torch

from ganomaly import GANomalyDetector
from ganomaly.data import open_test_images
from ganomaly.evaluation import evaluate_model
from images import SMALL, textures, write_images


def fitted(folder) -> GANomalyDetector:
    return GANomalyDetector(
        "paper", epochs=2, false_alarm_rate=0.1, precision="fp32", method_options=SMALL
    ).fit(folder)


def test_the_model_is_the_same_whatever_lies_in_the_test_folder(labelled_folder):
    first = fitted(labelled_folder)
    shutil.rmtree(labelled_folder / "test")
    write_images(labelled_folder / "test" / "good", textures(3, seed=77))
    write_images(labelled_folder / "test" / "other", np.full((9, 32, 32), 255, np.uint8))
    again = fitted(labelled_folder)
    left, right = first.model_.method.state_dict(), again.model_.method.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    np.testing.assert_array_equal(first.model_.calibration.scores, again.model_.calibration.scores)


def test_evaluating_changes_neither_the_model_nor_its_threshold(labelled_folder):
    detector = fitted(labelled_folder)
    model = detector.model_
    before = {name: tensor.clone() for name, tensor in model.method.state_dict().items()}
    threshold = model.calibration.threshold
    evaluate_model(model, open_test_images(labelled_folder))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.method.state_dict().items())
    assert model.calibration.threshold == threshold


def test_a_score_is_the_same_alone_and_in_an_evaluation(labelled_folder):
    detector = fitted(labelled_folder)
    evaluated = evaluate_model(detector.model_, open_test_images(labelled_folder))
    alone = [
        detector.anomaly_score([path])[0]
        for path in sorted((labelled_folder / "test" / "good").iterdir())[:3]
    ]
    in_evaluation = evaluated.scores[~evaluated.is_anomalous][:3]
    np.testing.assert_allclose(alone, in_evaluation, rtol=1e-5)


def test_calibration_images_are_not_trained_on(normal_images):
    """Other pixels in the calibration images leave the weights as they are."""
    from ganomaly.data import split_normal_images

    first = fitted(normal_images)
    split = split_normal_images(np.arange(len(normal_images)), share=0.1, at_least=9, seed=0)
    changed = normal_images.copy()
    changed[split.calibration] = textures(len(split.calibration), seed=99)
    again = fitted(changed)
    left, right = first.model_.method.state_dict(), again.model_.method.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert not np.array_equal(first.model_.calibration.scores, again.model_.calibration.scores)
