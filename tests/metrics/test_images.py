import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ganomaly.errors import UsageError
from ganomaly.metrics import equal_error_rate, fpr_at_tpr, image_auroc, image_metrics

CONTRACT = [
    "image_auroc",
    "image_average_precision",
    "image_f1",
    "eer",
    "fpr_at_95_tpr",
    "false_alarm_rate",
    "detection_rate",
    "pixel_auroc",
    "aupro",
    "n_normal",
    "n_anomalous",
    "per_kind",
]


@st.composite
def labelled_scores(draw):
    """Scores with ties, at least one normal and one anomalous image."""
    n = draw(st.integers(2, 40))
    scores = draw(arrays(np.float64, n, elements=st.integers(0, 12).map(float)))
    labels = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    labels[0], labels[1] = True, False
    return scores, labels


def test_metrics_of_a_small_case_are_those_computed_by_hand():
    scores = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    labels = [False, False, True, False, True, True]
    figures = image_metrics(scores, labels, threshold=3.5)
    assert figures.image_auroc == pytest.approx(8 / 9)  # 8 of the 9 pairs are in the right order
    assert figures.image_average_precision == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert figures.image_f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert figures.eer == pytest.approx(1 / 3)
    assert figures.fpr_at_95_tpr == pytest.approx(1 / 3)
    assert figures.false_alarm_rate == pytest.approx(1 / 3)
    assert figures.detection_rate == pytest.approx(2 / 3)
    assert (figures.n_normal, figures.n_anomalous) == (3, 3)
    assert figures.pixel_auroc is None
    assert figures.aupro is None


def test_json_has_the_keys_of_the_contract_in_their_order():
    figures = image_metrics([1.0, 2.0, 3.0], [False, True, True], 1.5, kinds=["good", "hole", "crack"])
    written = json.loads(json.dumps(figures.to_json_dict()))
    assert list(written) == CONTRACT
    assert written["per_kind"] == {
        "crack": {"image_auroc": 1.0, "n": 1},
        "hole": {"image_auroc": 1.0, "n": 1},
    }


def test_each_kind_is_compared_with_all_normal_images_and_no_other_kind():
    scores = [1.0, 3.0, 0.0, 2.0, 9.0, 9.0]
    labels = [False, False, True, True, True, True]
    kinds = ["good", None, "scratch", "scratch", "hole", None]
    per_kind = image_metrics(scores, labels, 5.0, kinds).per_kind
    assert {kind: (of.image_auroc, of.n, of.detection_rate) for kind, of in per_kind.items()} == {
        "hole": (1.0, 1, 1.0),
        "scratch": (0.25, 2, 0.0),
    }


def test_an_image_at_the_threshold_is_normal():
    figures = image_metrics([2.0, 2.0], [False, True], threshold=2.0)
    assert (figures.false_alarm_rate, figures.detection_rate) == (0.0, 0.0)


@pytest.mark.parametrize("anomalous", [False, True])
def test_metrics_that_need_both_classes_are_none_for_one(anomalous):
    figures = image_metrics([1.0, 2.0], [anomalous] * 2, 1.5, kinds=["hole", "hole"])
    written = figures.to_json_dict()
    assert all(written[name] is None for name in CONTRACT[:5])
    assert (figures.false_alarm_rate, figures.detection_rate) == ((None, 0.5) if anomalous else (0.5, None))
    assert [metrics.image_auroc for metrics in figures.per_kind.values()] == ([None] if anomalous else [])


def test_without_images_there_are_no_metrics():
    assert image_metrics([], [], 1.0).to_json_dict() == dict.fromkeys(CONTRACT[:9]) | {
        "n_normal": 0,
        "n_anomalous": 0,
        "per_kind": {},
    }


@pytest.mark.parametrize(
    ("scores", "labels", "threshold", "kinds", "words"),
    [
        ([1.0, np.nan], [True, False], 1.0, None, "1 of 2 scores"),
        ([1.0, -np.inf], [True, False], 1.0, None, "NaN or infinite"),
        ([1.0], [True, False], 1.0, None, "one score and one label"),
        ([[1.0]], [[True]], 1.0, None, "one score and one label"),
        ([1.0, 2.0], [True, False], np.nan, None, "threshold is nan"),
        ([1.0, 2.0], [True, False], 1.0, ["hole"], "2 scores came with 1 kinds"),
    ],
)
def test_input_that_makes_no_sense_is_refused_in_words(scores, labels, threshold, kinds, words):
    with pytest.raises(UsageError, match=words):
        image_metrics(scores, labels, threshold, kinds)


@given(labelled_scores())
def test_auroc_is_the_share_of_pairs_in_the_right_order(case):
    scores, labels = case
    difference = scores[labels][:, None] - scores[~labels][None, :]
    assert image_auroc(scores, labels) == pytest.approx(np.mean((difference > 0) + 0.5 * (difference == 0)))


@given(labelled_scores())
def test_metrics_without_a_threshold_depend_on_the_order_of_scores_alone(case):
    scores, labels = case
    stretched = np.expm1(scores / 3) - 2
    for figure in (image_auroc, equal_error_rate, lambda s, t: fpr_at_tpr(s, t, 0.95)):
        assert figure(stretched, labels) == pytest.approx(figure(scores, labels))


@given(labelled_scores())
def test_swapping_classes_and_the_sign_of_scores_changes_neither_auroc_nor_eer(case):
    scores, labels = case
    assert image_auroc(-scores, ~labels) == pytest.approx(image_auroc(scores, labels))
    assert equal_error_rate(-scores, ~labels) == pytest.approx(equal_error_rate(scores, labels))


@given(labelled_scores())
def test_eer_is_between_the_rates_of_the_thresholds_around_it(case):
    scores, labels = case
    eer = equal_error_rate(scores, labels)
    thresholds = np.append(np.unique(scores), scores.min() - 1)
    false_alarms = np.array([(scores[~labels] > t).mean() for t in thresholds])
    misses = np.array([(scores[labels] <= t).mean() for t in thresholds])
    # no threshold has both rates below the EER, and some threshold has neither above its worse neighbour
    assert eer <= np.maximum(false_alarms, misses).min() + 1e-12
    assert eer >= np.minimum(false_alarms, misses).max() - 1e-12


def test_eer_is_where_false_alarms_and_misses_are_equally_frequent():
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(0, 1, 4001), rng.normal(2, 1, 4001)])
    labels = np.arange(8002) >= 4001
    eer = equal_error_rate(scores, labels)
    at_eer = np.quantile(scores[~labels], 1 - eer)
    assert (scores[labels] <= at_eer).mean() == pytest.approx(eer, abs=1e-3)
    assert eer == pytest.approx(0.159, abs=0.01)  # of two unit normals 2 apart: Φ(−1)


@given(labelled_scores(), st.sampled_from([0.5, 0.95, 1.0]))
def test_fpr_at_tpr_is_the_lowest_of_all_thresholds_that_detect_enough(case, tpr):
    scores, labels = case
    thresholds = np.append(np.unique(scores), scores.min() - 1)
    enough = [t for t in thresholds if (scores[labels] > t).mean() >= tpr]
    expected = min((scores[~labels] > t).mean() for t in enough)
    assert fpr_at_tpr(scores, labels, tpr) == pytest.approx(expected)
