"""What a worker does: score the images of a part and write their rows."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganomaly.calibration import ProductCalibration
from ganomaly.cluster.parts import PartCounts, counts_as_metadata, part_name
from ganomaly.config import Device
from ganomaly.data import ImageDataset
from ganomaly.errors import GANomalyError, TrainingError
from ganomaly.files import written_whole
from ganomaly.outputs.tables import COLUMNS, PRODUCT, arrow_row, arrow_schema
from ganomaly.prediction import Prediction, load_predictor
from ganomaly.prediction.loop import NOT_FINITE
from ganomaly.remote import Location

INDEX = "index"
"""First column of each part: position of the image among all inputs."""


class PartScorer:
    """A worker of Ray Data that holds a model: a part in, counts of its rows out; the rows are in a file by then.

    Parameters
    ----------
    model : list of one object reference
        Of the files of a model, bytes by name. Ray keeps them once on each machine; in a list, so that Ray does not
        fetch them before the worker runs.
    out : Path or RemoteFile
        Folder of the parts.
    batch_size : int
        Images per batch.
    device : {'auto', 'cpu', 'cuda'}
        Where to compute.
    threads : int
        That compute, and that decode.
    folder : str
        Current folder of the program, to which paths of images are relative.
    """

    def __init__(
        self,
        model: list[Any],
        out: Location,
        *,
        batch_size: int,
        device: Device,
        threads: int,
        folder: str,
    ) -> None:
        import ray

        os.environ["GANOMALY_PROCESSORS"] = str(threads)
        with suppress(OSError):  # on another machine, where paths are absolute or in a store
            os.chdir(folder)
        self._predictor = loaded(ray.get(model[0]))
        with suppress(ModuleNotFoundError):  # an exported graph needs no PyTorch
            import torch

            torch.set_num_threads(threads)
        self._out, self._batch_size, self._device = out, batch_size, device
        products = isinstance(self._predictor.calibration, ProductCalibration)
        self._columns = (*COLUMNS, PRODUCT) if products else COLUMNS

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Score the parts of a batch.

        Parameters
        ----------
        batch : mapping
            `part`, number; `start`, index of its first image; `images`, its dataset as cloudpickle writes it.

        Returns
        -------
        dict
            `part`; its counts; and `failure` and `is_usage` of an error that ends the run, else None.
        """
        from ray import cloudpickle

        done: dict[str, list[Any]] = {
            name: [] for name in ("part", "failure", "status", *PartCounts.__dataclass_fields__)
        }
        for part, start, images in zip(batch["part"], batch["start"], batch["images"], strict=True):
            counts, failure, status = PartCounts(0, 0, 0, 0), None, 0
            try:
                counts = self._score(int(part), int(start), cloudpickle.loads(images))
            except GANomalyError as error:
                failure, status = str(error), error.exit_status
            for name, value in {
                **vars(counts),
                "part": int(part),
                "failure": failure,
                "status": status,
            }.items():
                done[name].append(value)
        return done

    def _score(self, part: int, start: int, dataset: ImageDataset) -> PartCounts:
        predictions = self._predicted(dataset)
        counts = PartCounts(
            len(predictions),
            sum(prediction.is_anomaly is True for prediction in predictions),
            sum(prediction.error is not None for prediction in predictions),
            sum(prediction.error == NOT_FINITE for prediction in predictions),
        )
        rows = [
            {INDEX: start + prediction.index, **arrow_row(prediction, self._columns)}
            for prediction in predictions
        ]
        self._write(part, rows, counts)
        return counts

    def _predicted(self, dataset: ImageDataset) -> list[Prediction]:
        """Predictions of all images; whether no score is a number only the driver can say, who sees all parts."""
        predictions: list[Prediction] = []
        try:
            for prediction in self._predictor.predict(
                dataset, batch_size=self._batch_size, device=self._device, fixed_batches=True
            ):
                predictions.append(prediction)
        except TrainingError:
            if len(predictions) < len(dataset):
                raise
        return predictions

    def _write(self, part: int, rows: list[dict[str, Any]], counts: PartCounts) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = arrow_schema((INDEX, *self._columns)).with_metadata(counts_as_metadata(counts))
        with written_whole(self._out / part_name(part)) as file:
            pq.write_table(pa.Table.from_pylist(rows, schema), file)


def loaded(files: Mapping[str, bytes]) -> Any:
    """The predictor from the files of a model, the model's own first."""
    with tempfile.TemporaryDirectory(prefix="ganomaly-") as folder:
        paths = [Path(folder) / name for name in files]
        for path, content in zip(paths, files.values(), strict=True):
            path.write_bytes(content)
        return load_predictor(paths[0])
