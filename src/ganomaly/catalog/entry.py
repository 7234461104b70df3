"""One entry of a catalogue: fit its model, unless the model there is that of the same images and options.

`fit_entry` is all that an engine needs: a function whose arguments and result go from process to process.
"""

import hashlib
import json
import os
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ganomaly.config import FitOptions
from ganomaly.data import ImageDataset, open_training_images
from ganomaly.data.fingerprint import has_fingerprint
from ganomaly.errors import GANomalyError, ModelFileError
from ganomaly.files import remove_file
from ganomaly.locks import locked_file
from ganomaly.output_checks import CHECKPOINT, MODEL, check_replaceable
from ganomaly.prediction import Predictor, load_predictor
from ganomaly.prediction.model_file import check_model_path, save_model
from ganomaly.remote import Location, RemoteFile, local_copy, stored_file
from ganomaly.training.checkpoint import OtherRunError, checkpoint_of
from ganomaly.training.fit import FitResult, fit_model
from ganomaly.training.observers import SilentObserver

Status = Literal["fitted", "unchanged", "failed"]
CATALOG = "catalog"
"""Where the provenance of a model says which entry it is of."""


@dataclass(frozen=True)
class CatalogEntry:
    """A model of a catalogue.

    Attributes
    ----------
    product : str
        Name of the product.
    camera : str or None
        Name of the view, where the product has several.
    data : str
        Normal images, as for `fit_model`.
    options : FitOptions
        Of the fit.
    """

    product: str
    camera: str | None
    data: str
    options: FitOptions

    @property
    def name(self) -> str:
        """Of the model: its file is `<name>.safetensors`."""
        return self.product if self.camera is None else f"{self.product}-{self.camera}"


@dataclass(frozen=True)
class EntryResult:
    """What came out for an entry; what is not known is None.

    Attributes
    ----------
    model : str
        Name of the entry.
    product, camera : str or None
        Of the entry.
    status : {'fitted', 'unchanged', 'failed'}
        Whether it was fitted now, was there already, or failed.
    preset : str or None
        By its name.
    training_images, calibration_images : int or None
        Numbers of images.
    threshold, attained_rate : float or None
        φ, and the false-alarm rate that it has.
    seconds : float
        For all of it.
    unreadable : int
        Images that could not be read.
    note : str or None
        What a user should know before trusting the model.
    error : str or None
        Why it failed.
    """

    model: str
    product: str
    camera: str | None
    status: Status
    preset: str | None = None
    training_images: int | None = None
    calibration_images: int | None = None
    threshold: float | None = None
    attained_rate: float | None = None
    seconds: float = 0.0
    unreadable: int = 0
    note: str | None = None
    error: str | None = None


class _Notes(SilentObserver):
    def __init__(self) -> None:
        self.sentences: list[str] = []

    def warn(self, sentence: str) -> None:
        """Keep it."""
        self.sentences.append(sentence)


def fit_entry(entry: CatalogEntry, out: Location) -> EntryResult:
    """Fit the model of an entry; never raises for what is wrong with one entry.

    Parameters
    ----------
    entry : CatalogEntry
        What to fit.
    out : Path or RemoteFile
        Folder of the models, which exists, or one in a store.
    """
    started = time.perf_counter()
    try:
        result = _result(entry, out)
    except GANomalyError as error:
        result = failed(entry, str(error))
    except Exception:
        result = failed(entry, f"unexpected {traceback.format_exc(limit=3)}")
    return replace(result, seconds=round(time.perf_counter() - started, 1))


def failed(entry: CatalogEntry, why: str) -> EntryResult:
    """The result of an entry that failed."""
    return EntryResult(entry.name, entry.product, entry.camera, "failed", error=why)


def _result(entry: CatalogEntry, out: Location) -> EntryResult:
    path = out / f"{entry.name}.safetensors"
    if not isinstance(path, RemoteFile):  # `_unchanged` checks a model in a store with the copy that it reads
        check_model_path(path)
    checkpoint = _checkpoint(path)
    if checkpoint is not None:
        check_replaceable(checkpoint, CHECKPOINT)
    with locked_file(path, "ganomaly fit-all"):
        dataset = open_training_images(entry.data)  # once: of a store it is a copy
        there = _unchanged(entry, path, dataset)
        if there is not None:
            return _described(entry, there, "unchanged")
        notes = _Notes()
        fitted = _fitted(entry, dataset, checkpoint, notes)
        identity = {"entry": entry.name, "asked": _asked(entry), "unreadable": len(fitted.failures)}
        if notes.sentences:
            identity["note"] = " ".join(notes.sentences)
        model = replace(fitted.model, provenance={**fitted.model.provenance, CATALOG: identity})
        save_model(model, path)
        if checkpoint is not None:
            remove_file(checkpoint)
    return _described(entry, model, "fitted")


def _checkpoint(path: Location) -> Path | None:
    """As `checkpoint_of`; None if the model is in a store and nothing can be written in the current folder."""
    if isinstance(path, RemoteFile) and not os.access(Path.cwd(), os.W_OK):
        return None
    return checkpoint_of(path)


def _fitted(entry: CatalogEntry, dataset: ImageDataset, checkpoint: Path | None, notes: _Notes) -> FitResult:
    """Go on from the checkpoint, unless that is of other images or options."""
    try:
        return fit_model(dataset, entry.options, observer=notes, checkpoint=checkpoint)
    except OtherRunError:
        return fit_model(dataset, entry.options, observer=notes, checkpoint=checkpoint, resume=False)


def _unchanged(entry: CatalogEntry, path: Location, dataset: ImageDataset) -> Predictor | None:
    """The model there, if it is of this entry's images and options; of a store it is read once."""
    if isinstance(path, RemoteFile):
        if stored_file(path) is None:
            return None
        with local_copy(path) as copy:
            check_replaceable(copy, MODEL)
            return _unchanged(entry, copy, dataset)
    if not path.exists():
        return None
    try:
        model = load_predictor(path)
    except ModelFileError:
        return None
    identity = model.provenance.get(CATALOG)
    if not isinstance(identity, dict) or identity.get("asked") != _asked(entry):
        return None
    return model if has_fingerprint(dataset, str(model.provenance.get("data_fingerprint"))) else None


def _asked(entry: CatalogEntry) -> str:
    """A digest of the options; where a model is computed does not change what it is."""
    options = entry.options.model_dump(mode="json", exclude={"device"})
    return hashlib.blake2b(json.dumps(options, sort_keys=True).encode(), digest_size=16).hexdigest()


def _described(entry: CatalogEntry, model: Predictor, status: Status) -> EntryResult:
    provenance, calibration = model.provenance, model.calibration
    return EntryResult(
        entry.name,
        entry.product,
        entry.camera,
        status,
        preset=model.preset,
        training_images=provenance.get("training_images"),
        calibration_images=len(calibration.scores),
        threshold=calibration.threshold,
        attained_rate=calibration.attained_rate,
        unreadable=provenance[CATALOG].get("unreadable", 0),
        note=provenance[CATALOG].get("note"),
    )
