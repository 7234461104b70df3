"""Several products in one model: is it as good as a model for each, and does the false-alarm rate hold for each?

`mnist`: the digits 0 to 4 are products; the test digits 5 to 9 are anomalous, and of no product. `parts`: magnetic
tiles and solar cells, each with its own defects. Models are saved in a folder, and a second run takes them from it.

Four ways to predict. `known` and `joint known` take the separate model of the product that is tested, or its
statistics in the model of all products: someone else has to know it. `picked` is the separate model with the smallest
A(x) / φ; `joint` is the model of all products, which picks in the same way.

Run: python benchmarks/products.py --task mnist --data DATA/mnist --models DIR [--seed 0]
     python benchmarks/products.py --task parts --data DATA/magnetic_tile --models DIR
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.benchmark.elpv import find_elpv, split_elpv
from ganomaly.config import FitOptions
from ganomaly.data import load_labelled_arrays, open_images, open_test_images, open_training_images
from ganomaly.methods.products import ProductMethods
from ganomaly.metrics import image_auroc
from ganomaly.prediction import Predictor, load_predictor
from ganomaly.prediction.model import Model
from ganomaly.prediction.model_file import save_model
from ganomaly.prediction.pytorch import predict_dataset
from ganomaly.training.fit import fit_model
from ganomaly.training.observers import SilentObserver
from machine import describe_machine

FALSE_ALARM_RATE = 0.05
N_DIGITS = 5
NONE = ""  # the product of what is of no product


@dataclass(frozen=True)
class Task:
    """Images of several products.

    Attributes
    ----------
    training : mapping of str to list of path or array
        The normal images of each product.
    testing : list of path or array
        Images to test with.
    product : ndarray
        `str[N]`, of each test image.
    is_anomalous : ndarray
        `bool[N]`.
    """

    training: Mapping[str, Any]
    testing: Any
    product: NDArray[np.str_]
    is_anomalous: NDArray[np.bool_]

    def of(self, product: str) -> NDArray[np.bool_]:
        """Which test images are of a product, or anomalous and of none."""
        return np.asarray((self.product == product) | (self.product == NONE))


def main() -> None:
    """Fit what is not there yet, and print a row for each product and way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=("mnist", "parts"), required=True)
    parser.add_argument("--data", type=Path, required=True, help="MNIST, or the magnetic tiles")
    parser.add_argument("--models", type=Path, required=True, help="folder to save the models in")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="fit one model, of this product or `joint`, and measure nothing")
    parser.add_argument(
        "--fitted-only", action="store_true", help="compare with the separate models that are there"
    )
    arguments = parser.parse_args()
    print(describe_machine())
    arguments.models.mkdir(parents=True, exist_ok=True)
    task = digits(arguments.data) if arguments.task == "mnist" else parts(arguments.data, arguments.seed)
    if arguments.only is not None:
        names = list(task.training) if arguments.only == "joint" else [arguments.only]
        fitted({name: task.training[name] for name in names}, arguments)
        return
    joint = fitted(task.training, arguments)
    separate = {
        name: fitted({name: images}, arguments)
        for name, images in task.training.items()
        if not arguments.fitted_only or path_of([name], arguments).exists()
    }
    report(task, joint, separate)


def digits(data: Path) -> Task:
    """The digits 0 to 4."""
    training, testing = (load_labelled_arrays(data, split) for split in ("train", "test"))
    names = [str(digit) for digit in range(N_DIGITS)]
    anomalous = ~np.isin(testing.labels, names)
    return Task(
        {name: training.images[training.labels == name] for name in names},
        testing.images,
        np.where(anomalous, NONE, testing.labels),
        anomalous,
    )


def parts(tiles: Path, seed: int) -> Task:
    """Magnetic tiles and solar cells."""
    datasets = {
        "tile": (open_training_images(tiles), open_test_images(tiles)),
        "cell": split_elpv(find_elpv(), seed),
    }
    return Task(
        {name: [record.path for record in training.records] for name, (training, _) in datasets.items()},
        [record.path for _, testing in datasets.values() for record in testing.records],
        np.array([name for name, (_, testing) in datasets.items() for _ in testing.records]),
        np.array(
            [bool(record.is_anomalous) for _, testing in datasets.values() for record in testing.records]
        ),
    )


def fitted(training: Mapping[str, Any], arguments: argparse.Namespace) -> Predictor:
    """The model of one product or several, from its file or trained now."""
    path = path_of(list(training), arguments)
    if not path.exists():
        options = FitOptions(seed=arguments.seed, false_alarm_rate=FALSE_ALARM_RATE)
        start = time.perf_counter()
        parts = list(training.values())
        images: Any = (
            np.concatenate(parts)
            if isinstance(parts[0], np.ndarray)
            else [path for part in parts for path in part]
        )
        products = [product for product, part in training.items() for _ in part]
        result = fit_model(
            images, options, observer=SilentObserver(), products=products if len(parts) > 1 else None
        )
        save_model(result.model, path)
        print(f"fitted {path.name} in {time.perf_counter() - start:.0f} s", flush=True)
    return load_predictor(path)


def path_of(names: Sequence[str], arguments: argparse.Namespace) -> Path:
    """The file of the model of these products."""
    folder: Path = arguments.models
    return folder / f"{arguments.task}_{'_'.join(names)}_{arguments.seed}.safetensors"


def report(task: Task, joint: Predictor, separate: Mapping[str, Predictor]) -> None:
    """Print what each way gives for each product, and for all of them."""
    joint_scores, joint_picks, milliseconds = predicted(joint, task)
    print(f"joint: {milliseconds:.1f} ms an image", flush=True)
    ways = {"joint": (joint_scores, joint_picks)}
    scores = {
        name: predicted(model, task)[0] / model.calibration.threshold for name, model in separate.items()
    }
    if len(scores) == len(task.training):
        relative = np.stack(list(scores.values()))
        ways["picked"] = (relative.min(axis=0), np.array(list(scores))[relative.argmin(axis=0)])
    own = of_each_product(joint, task)
    for product in task.training:
        selected = task.of(product)
        print(json.dumps(row("joint known", product, own[product], task, selected, None)))
        if product in scores:
            print(json.dumps(row("known", product, scores[product], task, selected, None)))
        for way, (values, picks) in ways.items():
            print(json.dumps(row(way, product, values, task, selected, picks)))
    everything = np.ones(len(task.product), dtype=bool)
    for way, (values, picks) in ways.items():
        print(json.dumps(row(way, "all", values, task, everything, picks)))


def of_each_product(joint: Predictor, task: Task) -> dict[str, NDArray[np.float64]]:
    """A(x) / φ with the statistics of each product."""
    assert isinstance(joint, Model)
    method = joint.method
    assert isinstance(method, ProductMethods)
    return {
        name: np.array(
            [
                prediction.score
                for prediction in predict_dataset(part, joint.preprocessing, open_images(task.testing))
            ],
            dtype=np.float64,
        )
        / float(threshold)
        for name, part, threshold in zip(method.names, method.of_products(), method.thresholds, strict=True)
    }


def predicted(model: Predictor, task: Task) -> tuple[NDArray[np.float64], NDArray[np.str_], float]:
    """Scores, products, and milliseconds for an image."""
    start = time.perf_counter()
    predictions = list(model.predict(open_images(task.testing)))
    milliseconds = 1000 * (time.perf_counter() - start) / len(predictions)
    scores = np.array([prediction.score for prediction in predictions], dtype=np.float64)
    return scores, np.array([prediction.product or NONE for prediction in predictions]), milliseconds


def row(
    way: str,
    product: str,
    relative: NDArray[np.float64],
    task: Task,
    selected: NDArray[np.bool_],
    picks: NDArray[np.str_] | None,
) -> dict[str, Any]:
    """Figures from scores in units of the threshold, and how many normal images another product was picked for."""
    normal, anomalous = selected & ~task.is_anomalous, selected & task.is_anomalous
    auroc = image_auroc(relative[selected], task.is_anomalous[selected])
    return {
        "way": way,
        "product": product,
        "image_auroc": None if auroc is None else round(auroc, 4),
        "false_alarms": int((relative[normal] > 1).sum()),
        "n_normal": int(normal.sum()),
        "detection_rate": round(float((relative[anomalous] > 1).mean()), 4),
        "wrong_picks": None if picks is None else int((picks[normal] != task.product[normal]).sum()),
    }


if __name__ == "__main__":
    main()
