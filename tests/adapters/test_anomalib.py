"""Batches of anomalib get predictions; its types are stubbed, since it binds to another build of PyTorch."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ganomaly import UsageError
from ganomaly.adapters.anomalib import normal_paths, predict_batch
from ganomaly.metrics import image_auroc
from images import textures


@dataclass
class ImageBatch:
    """The fields of anomalib 2.7's `ImageBatch` and `ImageItem`, and their `update`."""

    image: torch.Tensor
    gt_label: torch.Tensor | None = None
    gt_mask: torch.Tensor | None = None
    image_path: list[str] | None = None
    mask_path: list[str] | None = None
    anomaly_map: torch.Tensor | None = None
    pred_score: torch.Tensor | None = None
    pred_mask: torch.Tensor | None = None
    pred_label: torch.Tensor | None = None
    explanation: list[str] | None = None

    def update(self, in_place=True, **changes):
        assert not in_place, "the caller's batch is changed"
        return replace(self, **changes)


@pytest.fixture(scope="module")
def images():
    return np.concatenate([textures(6, seed=7), textures(6, seed=8, blob=True)])


def batch_of(images):
    """As a data module reads the files: RGB, float32 in [0, 1]."""
    rgb = torch.from_numpy(images)[:, None].expand(-1, 3, -1, -1).float() / 255
    return ImageBatch(rgb, torch.tensor([False, True]).repeat_interleave(6))


def test_a_batch_gets_the_scores_and_verdicts_of_the_detector(detector, images):
    batch = batch_of(images)
    predicted = predict_batch(detector, batch)
    scores = detector.anomaly_score(images)
    assert predicted.pred_score.dtype == torch.float32
    np.testing.assert_array_equal(predicted.pred_score.argsort(), np.argsort(scores))
    np.testing.assert_array_equal(predicted.pred_label, detector.predict(images) == -1)
    np.testing.assert_array_equal(predicted.pred_label, predicted.pred_score > 0.5)
    assert batch.pred_score is None
    assert predicted.gt_label is batch.gt_label
    labels = batch.gt_label.numpy()
    assert image_auroc(predicted.pred_score.numpy(), labels) == image_auroc(scores, labels)


def test_maps_are_at_the_size_of_the_image_with_the_threshold_in_the_middle(detector, images):
    predicted = predict_batch(detector, batch_of(images))
    threshold = detector.model_.map_calibration.threshold
    own = np.stack([detector.anomaly_map(image) for image in images])
    assert predicted.anomaly_map.shape == (12, 32, 32)
    assert 0 <= predicted.anomaly_map.min() < predicted.anomaly_map.max() <= 1
    np.testing.assert_array_equal(predicted.pred_mask, own > threshold)
    np.testing.assert_array_equal(predicted.anomaly_map > 0.5, own > threshold)


def test_an_item_is_predicted_without_a_batch(detector, images):
    whole = predict_batch(detector, batch_of(images))
    item = predict_batch(detector, ImageBatch(batch_of(images).image[3]))
    assert item.pred_score.shape == item.pred_label.shape == ()
    torch.testing.assert_close(item.pred_score, whole.pred_score[3])
    assert item.anomaly_map.shape == (32, 32)


def test_normalised_images_are_refused(detector, images):
    batch = batch_of(images)
    batch.image = (batch.image - 0.5) / 0.2
    with pytest.raises(UsageError, match="0 to 1 is needed"):
        predict_batch(detector, batch)


def test_normal_images_of_a_data_set_are_those_to_fit_on():
    samples = {"image_path": ["a.png", "b.png", "c.png"], "label_index": [0, 1, 0]}
    assert normal_paths(SimpleNamespace(samples=samples)) == ["a.png", "c.png"]
    samples["label_index"] = [1, 1, -1]
    with pytest.raises(UsageError, match="no sample"):
        normal_paths(SimpleNamespace(samples=samples))
