"""The detector works where scikit-learn's estimators do: its own checks, pipelines, searches, displays."""

import numpy as np
import pytest
import sklearn
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from ganomaly import GANomalyDetector, UsageError
from ganomaly.data import open_images
from ganomaly.selection import images_with_defects, synthetic_defect_auroc
from images import textures

TINY = {"ngf": 4, "ndf": 4, "nz": 8}

NO_TABLES = "images are uint8 or uint16 [N, H, W(, C)], not tables of numbers"
FIXED_BY_TYPE = "images are uint8 or uint16, in which there are no such values"
NOT_APPLICABLE = {
    "check_complex_data": FIXED_BY_TYPE,
    "check_estimators_nan_inf": FIXED_BY_TYPE,
    "check_estimators_empty_data_messages": "messages speak of images, not of features",
    "check_fit2d_1sample": "messages speak of images, not of samples",
    "check_estimator_sparse_tag": NO_TABLES,
    "check_estimator_sparse_array": NO_TABLES,
    "check_estimator_sparse_matrix": NO_TABLES,
    "check_n_features_in": "images of one data set may differ in size, so there is no number of features",
    "check_n_features_in_after_fitting": "images of one data set may differ in size",
    "check_estimators_pickle": "a fitted detector is not pickled, because loading a pickle runs code; save and load",
    "check_outliers_train": "asks for errors about numbers of features",
}
"""Checks of scikit-learn that do not apply to images, and why; docs/scikit-learn.md has the same list."""


class OfTables(GANomalyDetector):
    """Draws each row of a table as an image, since scikit-learn's checks give tables."""

    def fit(self, X, y=None):
        return super().fit(drawn(X), y)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True  # else scikit-learn checks nothing
        return tags

    def _predict(self, images, attribute, ignore):
        return super()._predict(drawn(images), attribute, ignore)


def drawn(X) -> np.ndarray:
    """A table `[n, k]` as images `uint8[n, 32, 32]`: stripes, each as bright as its number."""
    table = np.asarray(X, dtype=np.float64)
    if table.ndim != 2:
        raise UsageError(f"Expected 2D array, got {table.ndim}D; Reshape your data")
    bright = 127.5 * (1 + np.sin(np.nan_to_num(table)))
    stripes = bright[:, np.arange(32) * table.shape[1] // 32]
    return np.repeat(stripes[:, np.newaxis], 32, axis=1).astype(np.uint8)


@pytest.mark.filterwarnings("ignore")
def test_all_checks_of_scikit_learn_that_apply_to_images_pass():
    detector = OfTables(
        "paper",
        epochs=1,
        false_alarm_rate=0.3,
        image_size=32,
        channels=1,
        method_options={"ngf": 1, "ndf": 1, "nz": 4},
    )
    results = check_estimator(detector, expected_failed_checks=NOT_APPLICABLE, on_skip=None, on_fail=None)
    failed = {
        result["check_name"]: str(result["exception"]) for result in results if result["status"] == "failed"
    }
    assert not failed
    listed = {result["check_name"] for result in results if result["status"] == "xfail"}
    assert listed == set(NOT_APPLICABLE), "a listed check passes or is gone"
    assert sum(result["status"] == "passed" for result in results) >= 25


def brightened(images: np.ndarray) -> np.ndarray:
    return np.minimum(images.astype(np.uint16) + 20, 255).astype(np.uint8)


def test_a_pipeline_ends_with_the_detector(normal_images, anomalous_images):
    detector = GANomalyDetector("paper", epochs=2, false_alarm_rate=0.1, method_options=TINY)
    pipeline = Pipeline([("light", FunctionTransformer(brightened)), ("detector", detector)])
    pipeline.fit(normal_images)
    np.testing.assert_array_equal(
        pipeline.score_samples(anomalous_images),
        pipeline["detector"].score_samples(brightened(anomalous_images)),
    )
    assert set(pipeline.predict(anomalous_images)) <= {1, -1}


def test_a_search_over_presets_needs_normal_images_alone(normal_images):
    search = GridSearchCV(
        GANomalyDetector(epochs=1, false_alarm_rate=0.2),
        [
            {"preset": ["paper"], "method_options": [TINY]},
            {"preset": ["vae"], "epochs": [1, 2], "method_options": [{"nz": 8, "ngf": 4}]},
        ],
        scoring=synthetic_defect_auroc,
        cv=2,
        error_score="raise",
    )
    search.fit(normal_images)
    assert len(search.cv_results_["mean_test_score"]) == 3
    assert np.all((search.cv_results_["mean_test_score"] >= 0) & (search.cv_results_["mean_test_score"] <= 1))
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert search.best_estimator_.model_.preset == search.best_params_["preset"]


class DistanceToMean:
    """Knows what normal images look like on average."""

    def __init__(self, images, sign=-1):
        self.mean, self.sign = images.mean(axis=0), sign

    def score_samples(self, images):
        return self.sign * np.abs(images.astype(float) - self.mean).max(axis=(1, 2))


def test_the_scorer_is_high_for_who_finds_synthetic_defects_and_low_for_the_opposite():
    images = np.full((40, 32, 32), 120, np.uint8) + np.random.default_rng(0).integers(
        0, 4, (40, 32, 32), np.uint8
    )
    assert synthetic_defect_auroc(DistanceToMean(images), images) > 0.7
    assert synthetic_defect_auroc(DistanceToMean(images, sign=1), images) < 0.3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_defects_are_drawn_into_copies_and_always_the_same(dtype):
    images = textures(6, size=48).astype(dtype) * (1 if dtype == np.uint8 else 256)
    before = images.copy()
    normal, defective = images_with_defects(open_images(images))
    again = images_with_defects(open_images(images))[1]
    np.testing.assert_array_equal(images, before)
    assert len(normal) == 6
    assert 1 <= len(defective) <= 6
    assert all(image.dtype == dtype and image.shape == (48, 48, 1) for image in defective)
    assert all((image != one).any() for image in defective for one in normal)
    np.testing.assert_array_equal(defective, again)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((1, 32, 32), np.uint8), UsageError, "two held-out images or more, got 1"),
        (np.zeros((4, 8, 8), np.uint8), UsageError, "smaller than 16 px"),
    ],
)
def test_held_out_images_that_cannot_be_used_are_refused_in_words(images, error, message):
    with pytest.raises(error, match=message):
        synthetic_defect_auroc(None, images)


def test_an_update_raises_no_score_and_counts_a_version(normal_images, anomalous_images):
    detector = GANomalyDetector("paper", epochs=1, false_alarm_rate=0.2, method_options=TINY).fit(
        normal_images
    )
    scores, calibrating = detector.anomaly_score(anomalous_images), len(detector.model_.calibration.scores)
    more = textures(20, seed=8)
    assert detector.update(more) is detector
    assert (detector.anomaly_score(anomalous_images) <= scores).all()
    assert len(detector.model_.calibration.scores) == calibrating + 20
    assert detector.model_.provenance["version"] == 2
    with pytest.raises(UsageError, match="has seen the images"):
        detector.update(more)


def test_a_notebook_shows_the_diagram_and_the_threshold(detector):
    html = detector._repr_mimebundle_()["text/html"]
    assert "sk-estimator" in html
    assert f"φ = {detector.model_.calibration.threshold:.4g}" in html
    assert "<svg" in html
    assert "φ" not in GANomalyDetector()._repr_mimebundle_()["text/html"]
    with sklearn.config_context(display="text"):
        assert "text/html" not in detector._repr_mimebundle_()
