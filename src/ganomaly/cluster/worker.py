"""What a worker does: score the images of a part and write their rows."""

import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganomaly.calibration import ProductCalibration
from ganomaly.cluster.parts import PartCounts, Plan, check_manifest, counts_as_metadata, part_name
from ganomaly.config import Device
from ganomaly.data import ImageDataset
from ganomaly.errors import EngineError, GANomalyError, TrainingError
from ganomaly.files import written_whole
from ganomaly.outputs.tables import COLUMNS, PRODUCT, arrow_row, arrow_schema
from ganomaly.prediction import Prediction, load_predictor
from ganomaly.prediction.loop import NOT_FINITE
from ganomaly.remote import Location

INDEX = "index"
"""First column of each part: position of the image among all inputs."""


class Tries:
    """How often workers have begun each part, and started; an actor of Ray, which outlives them."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()
        self._starts = 0

    def begin(self, part: int) -> int:
        """Note that a worker begins a part; the number of this try, from 1."""
        self._begun[part] += 1
        self._starts = 0  # one that has the model works
        return self._begun[part]

    def start(self) -> int:
        """Note that a worker starts; the number of starts, this one too, since a worker last had the model."""
        self._starts += 1
        return self._starts

    def started(self) -> None:
        """Note that a worker has loaded the model."""
        self._starts = 0


class PartScorer:
    """A worker of Ray Data that holds a model: a part in, counts of its rows out; the rows are in a file by then.

    Parameters
    ----------
    model : list of one object reference
        Of the files of a model, bytes by name. Ray keeps them once on each machine; in a list, so that Ray does not
        fetch them before the worker runs.
    out : Path or RemoteFile
        Folder of the parts.
    tries : actor handle
        Of `Tries`.
    plan : Plan
        Of the parts.
    most_tries : int
        Of a part; then it is given up.
    most_starts : int
        Of workers, one after the other, of which none loads the model; then the run ends.
    batch_size : int
        Images per batch.
    device : {'auto', 'cpu', 'cuda'}
        Where to compute.
    threads : int
        That compute, and that decode.
    folder : str
        Current folder of the program, to which paths of images are relative.

    Raises
    ------
    EngineError
        If `most_starts` workers before this one died while they loaded the model.
    """

    def __init__(
        self,
        model: list[Any],
        out: Location,
        tries: Any,
        *,
        plan: Plan,
        most_tries: int,
        most_starts: int,
        batch_size: int,
        device: Device,
        threads: int,
        folder: str,
    ) -> None:
        import ray

        os.environ["GANOMALY_PROCESSORS"] = str(threads)
        with suppress(OSError):  # on another machine, where paths are absolute or in a store
            os.chdir(folder)
        if ray.get(tries.start.remote()) > most_starts:
            raise EngineError(died_at_loading(most_starts))
        self._predictor = loaded(ray.get(model[0]))
        ray.get(tries.started.remote())
        with suppress(ModuleNotFoundError):  # an exported graph needs no PyTorch
            import torch

            torch.set_num_threads(threads)
        self._tries, self._most_tries, self._plan = tries, most_tries, plan
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
            `part`; its counts; whether it `is_lost`, since all workers that have begun it died; and `failure` and
            `status` of an error that ends the run, else None and 0.
        """
        import ray
        from ray import cloudpickle

        done: dict[str, list[Any]] = {
            name: [] for name in ("part", "is_lost", "failure", "status", *PartCounts.__dataclass_fields__)
        }
        for part, start, images in zip(batch["part"], batch["start"], batch["images"], strict=True):
            counts, failure, status = PartCounts(0, 0, 0, 0), None, 0
            is_lost = ray.get(self._tries.begin.remote(int(part))) > self._most_tries
            try:
                if not is_lost:
                    check_manifest(self._out, self._plan)
                    counts = self._score(int(part), int(start), cloudpickle.loads(images))
            except GANomalyError as error:
                failure, status = str(error), error.exit_status
            except Exception as error:  # of a library: Ray would tell it with the steps on the way
                cause = " ".join(str(error).split())[:300]
                failure, status = f"a worker met an unexpected {type(error).__name__}: {cause}", 1
            for name, value in {
                **vars(counts),
                "part": int(part),
                "is_lost": is_lost,
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


def died_at_loading(n_workers: int) -> str:
    """What a user is told; less than the 300 characters that are kept of an error of Ray."""
    return (
        f"{n_workers} workers died one after the other while they loaded the model, as where it takes more memory "
        "than they get: name fewer workers with --workers, or use machines with more memory"
    )


def loaded(files: Mapping[str, bytes]) -> Any:
    """The predictor from the files of a model, the model's own first."""
    with tempfile.TemporaryDirectory(prefix="ganomaly-") as folder:
        paths = [Path(folder) / name for name in files]
        for path, content in zip(paths, files.values(), strict=True):
            path.write_bytes(content)
        return load_predictor(paths[0])
