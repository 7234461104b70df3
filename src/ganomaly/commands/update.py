"""`ganomaly update`."""

from pathlib import Path

from ganomaly.commands.console import Console
from ganomaly.commands.reporting import list_failures
from ganomaly.data import open_training_images, with_ignored_regions
from ganomaly.errors import UsageError
from ganomaly.locks import locked_file
from ganomaly.prediction.load import model_copy
from ganomaly.prediction.model_file import check_model_path, load_model, save_model
from ganomaly.remote import Location, RemoteFile
from ganomaly.training.update import update_model


def update(
    console: Console, model_path: Location, data: str, out: Location, *, ignore: Path | None = None
) -> bool:
    """Write a model that has learned from more normal images; return whether all could be read."""
    check_model_path(out)
    if _is_same(out, model_path):
        raise UsageError(
            f"--model {out} is the model that is updated; name another file, so that both are there"
        )
    with locked_file(out, "ganomaly update"):
        with model_copy(model_path) as copy:
            model = load_model(copy)
        dataset = open_training_images(data)
        if ignore is not None:
            dataset = regions = with_ignored_regions(dataset, ignore)
            console.say(regions.describe())
        with console.counting(len(dataset), "predicting") as count:
            result = update_model(model, dataset, on_prediction=count)
        save_model(result.model, out)
    calibration = result.model.calibration
    shortfall = calibration.shortfall()
    if shortfall is not None:
        console.warn(shortfall)
    if result.banks_full:
        console.warn(
            "the memory banks have no room for these images, so all of them calibrate; fit a new model to learn more"
        )
    learned = f"{result.in_banks} new images went into the memory banks and " if result.in_banks else ""
    console.say(
        f"version {result.model.provenance['version']}: {learned}{result.added} new ones calibrate, "
        f"now {len(calibration.scores)} in all; threshold φ = {calibration.threshold:.4g} for a false-alarm rate of "
        f"{calibration.attained_rate:.2g}; wrote {out}"
    )
    list_failures(console, result.failures)
    return not result.failures


def _is_same(out: Location, model: Location) -> bool:
    if isinstance(out, RemoteFile) or isinstance(model, RemoteFile):
        return out == model
    return out.exists() and model.exists() and out.samefile(model)
