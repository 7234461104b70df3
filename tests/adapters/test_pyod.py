"""The detector by PyOD's conventions, with PyOD's own code on top of it."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from ganomaly import DataError, GANomalyDetector, UsageError
from images import SMALL, textures, write_images

pytest.importorskip("pyod")
from ganomaly.adapters.pyod import PyODDetector


@pytest.fixture(scope="module")
def fitted(normal_images):
    detector = GANomalyDetector("paper", epochs=8, precision="fp32", method_options=SMALL, seed=3)
    return PyODDetector(detector, contamination=0.2).fit(normal_images)


def test_attributes_are_those_of_a_detector_of_pyod(fitted, normal_images, anomalous_images):
    assert fitted.decision_scores_.shape == fitted.labels_.shape == (60,)
    np.testing.assert_allclose(fitted.decision_function(normal_images), fitted.decision_scores_)
    np.testing.assert_array_equal(fitted.labels_, fitted.decision_scores_ > fitted.threshold_)
    scores = fitted.decision_function(anomalous_images)
    np.testing.assert_array_equal(scores, -fitted.detector_.score_samples(anomalous_images))
    np.testing.assert_array_equal(fitted.predict(anomalous_images), scores > fitted.threshold_)


def test_the_threshold_is_that_of_held_out_images_at_the_contamination(fitted):
    calibration = fitted.detector_.model_.calibration
    assert calibration.false_alarm_rate == 0.2
    assert fitted.threshold_ == calibration.threshold


@pytest.mark.parametrize("method", ["linear", "unify"])
def test_probability_and_confidence_are_made_by_pyod(fitted, tmp_path, method):
    images = textures(5, seed=9)
    folder = write_images(tmp_path / "images", images)
    paths = sorted(folder.iterdir())
    by_array, confidence = fitted.predict_proba(images, method, return_confidence=True)
    assert by_array.shape == (5, 2)
    np.testing.assert_allclose(by_array.sum(axis=1), 1)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    np.testing.assert_allclose(fitted.predict_proba(paths, method), by_array)
    assert set(fitted.predict_with_rejection(images, c_r=0.2)) <= {-2, 0, 1}


def test_scores_go_beside_those_of_other_detectors(fitted, anomalous_images, capsys):
    from pyod.models.ecod import ECOD
    from pyod.utils.data import evaluate_print
    from pyod.utils.utility import standardizer

    images = np.concatenate([textures(12, seed=8), anomalous_images])
    other = ECOD(contamination=0.2).fit(textures(40).reshape(40, -1).astype(float))
    scores = np.column_stack(
        [fitted.decision_function(images), other.decision_function(images.reshape(24, -1).astype(float))]
    )
    assert standardizer(scores).mean(axis=1).shape == (24,)
    evaluate_print("GANomaly", np.repeat([0, 1], 12), scores[:, 0])
    assert "GANomaly ROC:" in capsys.readouterr().out


def test_an_image_that_cannot_be_read_is_an_outlier(fitted, tmp_path):
    folder = write_images(tmp_path / "images", textures(1, seed=9))
    (folder / "broken.png").write_bytes(b"broken")
    with pytest.warns(UserWarning, match=r"no score for .*broken\.png"):
        assert fitted.predict([folder / "000.png", folder / "broken.png"])[1] == 1


def test_fit_says_which_image_cannot_be_read(tmp_path):
    folder = write_images(tmp_path / "images", textures(20))
    (folder / "020.png").write_bytes(b"broken")
    unfitted = PyODDetector(GANomalyDetector("paper", epochs=1, method_options=SMALL), contamination=0.3)
    with (
        pytest.warns(UserWarning, match="left out of training"),
        pytest.raises(DataError, match="1 of the 21 images cannot be read, the first is number 21"),
    ):
        unfitted.fit(folder)


def test_a_table_is_refused_before_anything_is_trained(fitted):
    table = np.zeros((20, 8))
    for use in (fitted.fit, fitted.decision_function):
        with pytest.raises(UsageError, match=r"a table of numbers; this detector takes images"):
            use(table)


def test_before_fit_there_are_no_scores_and_parameters_are_nested(normal_images):
    unfitted = PyODDetector(GANomalyDetector("features"))
    with pytest.raises(NotFittedError):
        unfitted.decision_function(normal_images)
    unfitted.set_params(detector__seed=5, contamination=0.3)
    copied = clone(unfitted)
    assert (copied.detector.seed, copied.contamination) == (5, 0.3)
    with pytest.raises(ValueError, match="contamination must be in"):
        PyODDetector(contamination=0.7)


def test_a_threshold_of_another_library_is_made_of_the_scores(normal_images):
    class Median:  # as the objects of PyThresh
        def fit(self, scores):
            self.thresh_ = float(np.median(scores))
            self.labels_ = (scores > self.thresh_).astype(int)

        def predict(self, scores):
            return (scores > self.thresh_).astype(int)

    detector = GANomalyDetector("paper", epochs=1, false_alarm_rate=0.2, method_options=SMALL)
    fitted = PyODDetector(detector, contamination=Median()).fit(normal_images[:20])
    assert fitted.labels_.sum() == 10
    assert fitted.threshold_ == np.median(fitted.decision_scores_)
