"""`ganomaly fit`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from ganomaly.commands.console import Console
from ganomaly.commands.process import InterruptionError
from ganomaly.commands.reporting import list_failures
from ganomaly.config import FitOptions, length_in_words
from ganomaly.data import ImageDataset, ImageLoader
from ganomaly.data.products import FOLDERS
from ganomaly.files import remove_file
from ganomaly.locks import locked_file
from ganomaly.loggers import logged, open_loggers, run_name
from ganomaly.output_checks import CHECKPOINT, check_replaceable
from ganomaly.prediction.model_file import check_model_path, save_model
from ganomaly.remote import Location, RemoteFile, stored_file
from ganomaly.training.checkpoint import checkpoint_of
from ganomaly.training.fit import fit_model, help_fit, plan_fit
from ganomaly.training.forecast import forecast_duration, threshold_in_words
from ganomaly.training.processes import LOST, Place, is_watched
from ganomaly.training.ranks import RankLostError


def fit(
    console: Console,
    data: str | ImageDataset,
    path: Location,
    options: FitOptions,
    *,
    resume: bool,
    ignore: Path | None = None,
    products: bool = False,
    loggers: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
    place: Place | None = None,
) -> bool:
    """Train on normal images and write the model; return whether all images could be read.

    `provenance` is what the model file says of its origin in addition, as JSON values. Of several processes that
    train together the first writes, and the others help.
    """
    of_products = FOLDERS if products else None
    if place is not None and place.rank > 0:
        help_fit(data, options, place, ignore=ignore, products=of_products)
        return True
    check_model_path(path)
    opened = open_loggers(loggers, run_name(path))
    checkpoint = checkpoint_of(path)
    check_replaceable(checkpoint, CHECKPOINT)
    with (
        # who watches several processes holds the lock
        nullcontext() if is_watched() else locked_file(path, "ganomaly fit"),
        _interruption_in_words(checkpoint, resume=resume),
        console.fitting() as display,
        logged(display, opened) as logging,
    ):
        result = fit_model(
            data,
            options,
            observer=logging.observer,
            checkpoint=checkpoint,
            resume=resume,
            ignore=ignore,
            products=of_products,
            place=place,
        )
        model = result.model
        is_replaced = _exists(path)
        save_model(replace(model, provenance={**model.provenance, **(provenance or {})}), path)
        logging.saved(result, None if isinstance(path, RemoteFile) else path)
        remove_file(checkpoint)  # before loggers take their time
    calibration, training = model.calibration, result.training
    work = length_in_words(model.provenance["epochs"], model.provenance["steps"])
    unit = "images" if model.provenance.get("patients") is None else "patients, one image of each"
    replaced = ", in place of the model there" if is_replaced else ""
    console.say(
        f"trained {work} in {training.seconds:.0f} s ({training.precision}); "
        f"threshold φ = {calibration.threshold:.4g} for a false-alarm rate of {calibration.attained_rate:.2g}, "
        f"from {len(calibration.scores)} calibration {unit}; wrote {path}{replaced}"
    )
    list_failures(console, result.failures)
    return not result.failures


def describe_fit(
    console: Console,
    data: str,
    path: Location,
    options: FitOptions,
    *,
    resume: bool,
    ignore: Path | None = None,
    products: bool = False,
    loggers: Sequence[str] = (),
) -> bool:
    """Say what `fit` would do and how long it would take; return whether all headers could be read."""
    check_model_path(path)
    checkpoint = checkpoint_of(path)
    check_replaceable(checkpoint, CHECKPOINT)
    open_loggers(loggers, run_name(path))
    plan, regions = plan_fit(data, options, ignore=ignore, products=FOLDERS if products else None)
    loader = ImageLoader.of(plan.dataset, plan.inspection, plan.preprocessing)
    console.say(plan.describe(loader, plan.preprocessing, are_read=False))
    if regions is not None:
        console.say(regions.describe())
    console.say(threshold_in_words(plan, options.false_alarm_rate))
    console.say(f"It would write {path}{', and replace the file there' if _exists(path) else ''}.")
    if resume and checkpoint.exists():
        console.say(f"It would go on from {checkpoint}, if that is of the same run.")
    console.say("Measuring how long that takes on this machine.")
    duration = forecast_duration(plan, loader)
    console.say(
        f"It would take {duration.in_words()}, measured just now with random data; reading the images comes on top. "
        "Nothing was written."
    )
    failures = {plan.dataset.records[index].path: why for index, why in plan.inspection.failures.items()}
    list_failures(console, failures)
    return not failures


def _exists(path: Location) -> bool:
    return stored_file(path) is not None if isinstance(path, RemoteFile) else path.exists()


@contextmanager
def quiet_about_others() -> Iterator[None]:
    """Leave it to who watches the processes of a training to say which one ended."""
    try:
        yield
    except RankLostError:
        if not is_watched():
            raise
        raise typer.Exit(LOST) from None


@contextmanager
def _interruption_in_words(checkpoint: Path, *, resume: bool) -> Iterator[None]:
    """Say after Ctrl-C what the same command will do next."""
    try:
        yield
    except KeyboardInterrupt:
        resumes = resume and checkpoint.exists()
        consequence = "resumes from the last checkpoint" if resumes else "starts anew"
        raise InterruptionError(
            f"interrupted; no model was written; the same command {consequence}"
        ) from None
