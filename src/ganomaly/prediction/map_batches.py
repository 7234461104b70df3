"""Predictions of batches that are columns, as Ray Data and the like pass them to a class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganomaly.config import BATCH_SIZE, DEVICE, Device
from ganomaly.data import ImageArrays, ImageDataset, open_images
from ganomaly.data.sources.encoded import EncodedImages
from ganomaly.errors import UsageError
from ganomaly.prediction.load import load_predictor
from ganomaly.prediction.predictor import Predictor
from ganomaly.remote import Location

COLUMNS = ("score", "normalized_score", "p_value", "is_anomaly", "error")
"""What is added to a batch; attributes of `Prediction`."""


class ImageScorer:
    """A callable that adds scores to batches of images; it holds a model, and nothing of one batch for the next.

    An image has the same score bit for bit as by `ganomaly score`, whatever it is in a batch with.

    Parameters
    ----------
    model : str, Path, RemoteFile or Predictor
        A model or an exported graph, loaded in the process that calls.
    batch_size : int
        Images that are computed at once; changes memory and speed, not scores.
    device : {'auto', 'cpu', 'cuda'}
        Where to compute.

    Raises
    ------
    UsageError, ModelFileError
        As `load_predictor` does.

    Examples
    --------
    On two processors, with images as Ray Data reads them::

        images = ray.data.read_binary_files("parts", include_paths=True)
        scores = images.map_batches(
            ImageScorer,
            fn_constructor_args=["part.safetensors"],
            compute=ray.data.ActorPoolStrategy(size=2),
            num_cpus=0.5,  # two at 1 would leave no processor for reading, which then waits for ever
        )
        scores.write_parquet("verdicts")
    """

    def __init__(
        self,
        model: "str | Location | Predictor",
        *,
        batch_size: int = BATCH_SIZE,
        device: Device = DEVICE,
    ) -> None:
        self.predictor = load_predictor(model) if not hasattr(model, "predict") else model
        self._batch_size, self._device = batch_size, device

    def __call__(self, batch: Mapping[str, Any]) -> Any:
        """Score the images of a batch.

        Parameters
        ----------
        batch : mapping of str to sequence
            A column `bytes` of encoded images, `image` of `uint8` or `uint16` `[H, W]` or `[H, W, C]`, or else
            `path`, whose files are read here.

        Returns
        -------
        pyarrow.Table
            The other columns of the batch, and `COLUMNS`, which are null where they do not apply: an image that
            cannot be read has its `error` alone.

        Raises
        ------
        UsageError
            If there is no column of images, or a path leads to several.
        """
        import pyarrow as pa

        dataset = _dataset(batch)
        predictions = self.predictor.predict(
            dataset, batch_size=self._batch_size, device=self._device, fixed_batches=True
        )
        rows = [[getattr(prediction, name) for name in COLUMNS] for prediction in predictions]
        kept = {name: list(values) for name, values in batch.items() if name not in ("bytes", "image")}
        columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
        return pa.table(
            {**kept, **{name: pa.array(columns[name], _arrow_type(pa, name)) for name in COLUMNS}}
        )


def _arrow_type(pa: Any, name: str) -> Any:
    return pa.string() if name == "error" else pa.bool_() if name == "is_anomaly" else pa.float64()


def _dataset(batch: Mapping[str, Any]) -> ImageDataset:
    if "bytes" in batch:
        contents: Sequence[bytes] = [bytes(content) for content in batch["bytes"]]
        names = batch.get("path", [f"image {number}" for number in range(len(contents))])
        return EncodedImages(contents, [str(name) for name in names], "a batch")
    if "image" in batch:
        return ImageArrays([np.asarray(image) for image in batch["image"]])
    if "path" in batch:
        return _one_for_each([str(path) for path in batch["path"]])
    raise UsageError(
        f"a batch needs a column bytes, image or path, and has {', '.join(batch) or 'no column'}; "
        "ray.data.read_binary_files(folder, include_paths=True) gives bytes and path"
    )


def _one_for_each(paths: Sequence[str]) -> ImageDataset:
    """The images of paths, each a row."""
    dataset = open_images(paths)
    if len(dataset) != len(paths):
        path, number = next((path, n) for path in paths if (n := len(open_images([path]))) != 1)
        raise UsageError(
            f"{path} holds {number} images, and a row of a batch is one; give its images as a column bytes or image"
        )
    return dataset
