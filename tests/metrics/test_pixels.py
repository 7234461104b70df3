import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score

from ganomaly.errors import UsageError
from ganomaly.metrics import PixelTally, aupro, image_metrics, pixel_auroc, pixels


def noisy_case(n_images=4, size=64, seed=0):
    """Maps that are higher in the masks, of differing sizes; the last image is normal."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for number in range(n_images):
        mask = np.zeros((size, size + number), np.uint8)
        mask[5:12, 5:30] = mask[40:44, 50:53] = 255
        maps.append(np.float32(rng.gamma(2, 1, mask.shape) + (mask > 0) * 1.5))
        masks.append(mask)
    masks[-1] = None
    return maps, masks


def slow_aupro(maps, masks, fpr_limit):
    """The definition, threshold by threshold."""
    normal, regions = [], []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        labels, n = label(np.zeros_like(anomaly_map) if mask is None else mask, np.ones((3, 3)))
        normal.append(anomaly_map[labels == 0])
        regions += [anomaly_map[labels == region] for region in range(1, n + 1)]
    normal = np.concatenate(normal)
    thresholds = np.unique(np.concatenate([normal, *regions]))[::-1]
    fpr = np.array([0.0] + [(normal >= t).mean() for t in thresholds])
    pro = np.array([0.0] + [np.mean([(region >= t).mean() for region in regions]) for t in thresholds])
    area = 0.0
    for i in range(1, len(fpr)):
        if fpr[i - 1] >= fpr_limit:
            break
        end = min(fpr[i], fpr_limit)
        share = 0.0 if fpr[i] == fpr[i - 1] else (end - fpr[i - 1]) / (fpr[i] - fpr[i - 1])
        area += (end - fpr[i - 1]) * (pro[i - 1] + share * (pro[i] - pro[i - 1]) / 2)
    return area / fpr_limit


def test_pixel_auroc_is_that_of_all_pixels_taken_together():
    maps, masks = noisy_case()
    labels = np.concatenate(
        [np.zeros(m.size, bool) if k is None else k.ravel() > 0 for m, k in zip(maps, masks, strict=True)]
    )
    expected = roc_auc_score(labels, np.concatenate([m.ravel() for m in maps]))
    assert pixel_auroc(maps, masks) == pytest.approx(expected, abs=1e-12)


def test_aupro_of_a_small_case_is_that_computed_by_hand():
    # one region of 4 pixels and one of 1; normal pixels 1…10; above 9.5 lies half of the first region
    anomaly_map = np.array([[11.0, 12, 0.5, 0.5, *range(1, 11), 20]])
    mask = np.array([[1, 1, 1, 1, *[0] * 10, 1]])
    # PRO = (1/2 + 1) / 2 while the share of false alarms runs from 0 to 0.3
    assert aupro([anomaly_map], [mask]) == pytest.approx(0.75)


@pytest.mark.parametrize("fpr_limit", [0.05, 0.3, 1.0])
def test_aupro_follows_its_definition_threshold_by_threshold(fpr_limit):
    maps, masks = noisy_case(n_images=3, size=56)
    assert aupro(maps, masks, fpr_limit) == pytest.approx(slow_aupro(maps, masks, fpr_limit), abs=1e-9)


@settings(max_examples=40)
@given(
    arrays(np.int64, (6, 7), elements=st.integers(-3, 3)),
    arrays(np.bool_, (6, 7)),
    st.sampled_from([0.1, 0.3, 1.0]),
)
def test_aupro_with_many_ties_follows_its_definition(values, mask, fpr_limit):
    mask[0, 0], mask[0, 2:4], mask[1, 1:5] = True, False, False
    case = [values.astype(np.float32)], [mask]
    assert aupro(*case, fpr_limit) == pytest.approx(slow_aupro(*case, fpr_limit), abs=1e-9)


def test_a_small_defect_counts_as_much_as_a_large_one_in_aupro():
    anomaly_map, mask = np.zeros((40, 40)), np.zeros((40, 40), bool)
    mask[:20, :20] = mask[30, 30] = True
    anomaly_map[:20, :20] = 1  # the large one is detected, the one-pixel one is not
    assert aupro([anomaly_map], [mask], fpr_limit=0.01) == pytest.approx(0.5, abs=0.01)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.eye(4, dtype=bool)
    anomaly_map = np.zeros((4, 4))
    anomaly_map[0, 0] = 1  # a quarter of the one region
    assert aupro([anomaly_map], [mask], fpr_limit=1e-6) == pytest.approx(0.25, abs=1e-3)


def test_merging_close_values_changes_the_areas_by_less_than_1e_4(monkeypatch):
    maps, masks = noisy_case(n_images=12, size=96)
    exact = pixel_auroc(maps, masks), aupro(maps, masks)
    monkeypatch.setattr(pixels, "MAX_VALUES", 4000)
    monkeypatch.setattr(pixels, "MERGE_PIXELS", 20_000)
    assert (pixel_auroc(maps, masks), aupro(maps, masks)) == pytest.approx(exact, abs=1e-4)


def test_a_tally_holds_no_more_values_than_it_says_however_many_images(monkeypatch):
    monkeypatch.setattr(pixels, "MAX_VALUES", 1000)
    monkeypatch.setattr(pixels, "MERGE_PIXELS", 5000)
    tally = PixelTally()
    rng = np.random.default_rng(0)
    for _ in range(60):
        tally.add(rng.random((32, 32)), None)
    assert len(tally._normal._keys) <= 1000
    assert tally._normal._n_pending < 5000
    assert tally._normal._weights.sum() == 60 * 32 * 32


@given(arrays(np.float32, (3, 5), elements=st.floats(-(2.0**120), 2.0**120, width=32)))
def test_values_of_any_size_and_sign_keep_their_order(values):
    mask = np.zeros((3, 5), bool)
    mask[1] = True
    assert pixel_auroc([values], [mask]) == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()))


def test_without_masks_or_without_normal_pixels_there_is_no_area():
    nothing_marked = np.zeros((4, 4), np.uint8)
    everything_marked = np.ones((4, 4), np.uint8)
    for mask in (None, nothing_marked, everything_marked):
        assert pixel_auroc([np.ones((4, 4))], [mask]) is None
        assert aupro([np.ones((4, 4))], [mask]) is None
    assert PixelTally().auroc() is None


def test_an_evaluation_takes_its_pixel_metrics_from_the_tally():
    tally = PixelTally()
    tally.add(np.array([[0.1, 0.9]]), np.array([[0, 255]]))
    figures = image_metrics([0.9, 0.1], [True, False], 0.5, pixels=tally)
    assert (figures.pixel_auroc, figures.aupro) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("anomaly_map", "mask", "words"),
    [
        (np.ones((2, 2)), np.ones((2, 3)), "sizes must agree"),
        (np.array([[np.nan]]), None, "NaN or infinity"),
        (np.array([[1e300]]), None, "NaN or infinity"),
        (np.ones(4), None, r"must be \[H, W\]"),
    ],
)
def test_a_map_that_makes_no_sense_is_refused_in_words(anomaly_map, mask, words):
    with pytest.raises(UsageError, match=words):
        pixel_auroc([anomaly_map], [mask])


@pytest.mark.parametrize("fpr_limit", [0.0, -0.1, 1.1, np.nan])
def test_an_fpr_limit_that_is_no_share_is_refused(fpr_limit):
    with pytest.raises(UsageError, match="fpr_limit"):
        aupro([np.ones((2, 2))], [None], fpr_limit)


def test_a_large_image_takes_little_memory_beside_its_map(monkeypatch):
    monkeypatch.setattr(pixels, "MERGE_PIXELS", 2**16)
    monkeypatch.setattr(pixels, "MAX_VALUES", 2**14)
    anomaly_map = np.random.default_rng(0).random((1000, 1000), dtype=np.float32)
    mask = np.zeros((1000, 1000), dtype=np.uint8)
    mask[100:400, 200:700] = 255
    tally = PixelTally()
    tracemalloc.start()
    try:
        tally.add(anomaly_map, mask)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 14 * anomaly_map.size, f"{peak / anomaly_map.size:.1f} bytes a pixel"
