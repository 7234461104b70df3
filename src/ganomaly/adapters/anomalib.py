"""Batches of anomalib with this package's predictions in them, for its metrics and visualisers, without its Engine.

Nothing of anomalib is imported: its data modules give the batches, and each batch makes its own copy.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganomaly.detector import GANomalyDetector
from ganomaly.errors import UsageError

_TINY = 1e-30


def predict_batch(detector: GANomalyDetector, batch: Any) -> Any:
    """A copy of a batch of anomalib, with predictions.

    Parameters
    ----------
    detector : GANomalyDetector
        Fitted.
    batch : anomalib.data.ImageBatch or ImageItem
        As a data module gives it; `image` is `float[N, C, H, W]`, or `[C, H, W]` of an item, in [0, 1]. The data
        module must not normalise.

    Returns
    -------
    ImageBatch or ImageItem
        With `pred_score`, `float32[N]` in [0, 1], 0.5 is φ and the order is that of A(x); `pred_label`, `bool[N]`;
        and, where the method has maps, `anomaly_map`, `float32[N, H, W]` in [0, 1], 0.5 is the map's threshold, and
        `pred_mask`, `bool[N, H, W]`. Of an item each without N.

    Raises
    ------
    UsageError
        If the images are not in [0, 1].
    sklearn.exceptions.NotFittedError
        If the detector is not fitted.

    Examples
    --------
    >>> from ganomaly.adapters.anomalib import normal_paths, predict_batch
    >>> def image_auroc(datamodule, metric):
    ...     detector = GANomalyDetector().fit(normal_paths(datamodule.train_data))
    ...     for batch in datamodule.test_dataloader():
    ...         metric.update(predict_batch(detector, batch))
    ...     return metric.compute()
    """
    is_item = batch.image.ndim == 3
    images = batch.image[None] if is_item else batch.image
    predictions = detector.predictions(_pixels(images))
    threshold = max(detector.model_.calibration.threshold, _TINY)
    scores = np.array([prediction.score for prediction in predictions], dtype=np.float64)
    fields = {
        "pred_score": torch.from_numpy(_centred(scores / threshold)),
        "pred_label": torch.tensor([bool(prediction.is_anomaly) for prediction in predictions]),
    }
    map_calibration = detector.model_.map_calibration
    if map_calibration is not None:
        sized = (prediction.map_at_image_size() for prediction in predictions)
        maps = np.stack([anomaly_map for anomaly_map in sized if anomaly_map is not None])  # all have one
        fields["anomaly_map"] = torch.from_numpy(_centred(map_calibration.level(maps)))
        fields["pred_mask"] = torch.from_numpy(maps > map_calibration.threshold)
    given = {name: values[0] if is_item else values for name, values in fields.items()}
    return batch.update(in_place=False, **given)


def normal_paths(dataset: Any) -> list[str]:
    """The normal images of a data set of anomalib, to fit a detector on.

    Parameters
    ----------
    dataset : anomalib.data.AnomalibDataset
        Such as `train_data` of a data module after its `setup()`.

    Raises
    ------
    UsageError
        If none of its samples is normal.
    """
    samples = dataset.samples
    paths = [
        str(path)
        for path, label in zip(samples["image_path"], samples["label_index"], strict=True)
        if label == 0
    ]
    if not paths:
        raise UsageError(
            "no sample of this data set of anomalib is normal; give the data module's train_data"
        )
    return paths


def _pixels(images: torch.Tensor) -> NDArray[np.uint8]:
    """From `float[N, C, H, W]` in [0, 1] to `uint8[N, H, W, C]`, as they were in the files."""
    values = images.detach().cpu().float()
    if values.numel() and not (values.min() >= 0 and values.max() <= 1):
        raise UsageError(
            f"the images of the batch are from {values.min():.3g} to {values.max():.3g}, but 0 to 1 is needed; "
            "give batches of the data module, not those of a model's normalisation"
        )
    return (values * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _centred(level: NDArray[Any]) -> NDArray[np.float32]:
    """From levels, of which 1 is the threshold, to [0, 1], of which 0.5 is; the order stays.

    Metrics of torchmetrics take what is outside of [0, 1] for logits. `normalized_score` comes close to 1 soon, where
    many scores would be equal in 32 bits.
    """
    above = np.asarray(level, dtype=np.float64) - 1
    return np.asarray(0.5 * (1 + above / (1 + np.abs(above))), dtype=np.float32)
