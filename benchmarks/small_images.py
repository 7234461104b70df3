"""Small images with one class anomalous: image AUROC after training on the other classes, without their labels.

Test: the normal test images, and every image of the anomalous class from train and test. Each run is a plain `fit`
with `--false-alarm-rate 0.05`, calibration included, so the false alarms on the normal test images are measured too.

Run: python benchmarks/small_images.py --data DATA/mnist --out mnist.jsonl [--classes 0,1] [--seeds 0,1,2]
Runs that are in the file already are skipped.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganomaly.config import FitOptions
from ganomaly.data import open_images
from ganomaly.data.sources.parquet import ParquetImages
from ganomaly.methods import contrastive_ganomaly, find_preset
from ganomaly.metrics import image_auroc
from ganomaly.networks.backbones import Backbone
from ganomaly.training.fit import fit_model
from machine import describe_machine

FALSE_ALARM_RATE = 0.05

Images = tuple[NDArray[np.uint8], NDArray[np.str_]]


def main() -> None:
    """Train and print a line for each class and seed, and the mean and the worst class at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the train and test parquet files"
    )
    parser.add_argument("--classes", help="anomalous classes, separated by commas; all if not given")
    parser.add_argument("--seeds", default="0", help="seeds, separated by commas")
    parser.add_argument("--threads", type=int, help="threads of the processor; all if not given")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one for each run; added to")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        help="folder for checkpoints of training, from which a stopped run resumes",
    )
    parser.add_argument(
        "--remember-features",
        action="store_true",
        help="compute the backbone's features of an image once for all runs; fit_seconds and score_seconds are "
        "then shorter than those of one fit",
    )
    arguments = parser.parse_args()
    if arguments.remember_features:
        remember_features()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(describe_machine())
    splits = {split: load(arguments.data, split) for split in ("train", "test")}
    classes = (
        arguments.classes.split(",")
        if arguments.classes
        else sorted(set(splits["test"][1]), key=_numbers_first)
    )
    unknown = sorted(set(classes) - set(splits["test"][1]))
    if unknown:
        parser.error(f"{arguments.data.name} has no class {', '.join(unknown)}")
    preset = find_preset(arguments.preset)[1]
    channels = splits["train"][0].shape[3]
    done = {_identity(row): row for row in _read(arguments.out)}
    rows = []
    for seed in map(int, arguments.seeds.split(",")):
        for anomalous in classes:
            identity = {
                "data": arguments.data.name,
                "preset": arguments.preset,
                "class": anomalous,
                "seed": seed,
                "steps": preset.training_for(channels).steps,
            }
            row = done.get(_identity(identity))
            if row is None:
                checkpoint = arguments.checkpoints and arguments.checkpoints / _file_name(identity)
                row = identity | measure(splits, anomalous, seed, arguments.preset, checkpoint)
                row["threads"] = torch.get_num_threads()
                row["remembered_features"] = arguments.remember_features
                with arguments.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            rows.append(row)
            print(_line(row), flush=True)
    print(_summary(rows))


def remember_features() -> None:
    """Compute the features of the frozen backbone once for each image: they are the same for every class and seed."""
    compute = contrastive_ganomaly.pretrained_features
    known: dict[bytes, Tensor] = {}

    def remembered(backbone: Backbone, x: Tensor) -> Tensor:
        keys = [hashlib.sha256(image.tobytes()).digest() for image in x.cpu().numpy()]
        new = {key: index for index, key in enumerate(keys) if key not in known}
        if new:
            known.update(zip(new, compute(backbone, x[list(new.values())]), strict=True))
        return torch.stack([known[key] for key in keys])

    contrastive_ganomaly.pretrained_features = remembered


def load(folder: Path, split: str) -> Images:
    """Decode a split: images `uint8[N, H, W, C]` and their classes."""
    dataset = ParquetImages(sorted(folder.rglob(f"*{split}*.parquet")))
    images = np.stack([dataset.read(index) for index in range(len(dataset))]).astype(np.uint8, copy=False)
    return images, np.array([str(record.kind) for record in dataset.records])


def measure(
    splits: Mapping[str, Images], anomalous: str, seed: int, preset: str, checkpoint: Path | None
) -> dict[str, Any]:
    """Fit on the train images of the other classes, and score the test images."""
    (train_images, train_classes), (test_images, test_classes) = splits["train"], splits["test"]
    resumed = checkpoint is not None and checkpoint.exists()
    start = time.perf_counter()
    fitted = fit_model(
        train_images[train_classes != anomalous],
        FitOptions(preset=preset, seed=seed, false_alarm_rate=FALSE_ALARM_RATE),
        checkpoint=checkpoint,
    )
    fit_seconds = time.perf_counter() - start
    from_train = train_images[train_classes == anomalous]
    is_anomalous = np.concatenate([test_classes == anomalous, np.ones(len(from_train), bool)])
    start = time.perf_counter()
    predictions = fitted.model.predict(open_images(np.concatenate([test_images, from_train])))
    scores = np.array([prediction.score for prediction in predictions], np.float64)
    score_seconds = time.perf_counter() - start
    threshold = fitted.model.calibration.threshold
    return {
        "steps": fitted.model.provenance["steps"],
        "auroc": image_auroc(scores, is_anomalous),
        "false_alarms": float((scores[~is_anomalous] > threshold).mean()),
        "detected": float((scores[is_anomalous] > threshold).mean()),
        "normal": int((~is_anomalous).sum()),
        "anomalous": int(is_anomalous.sum()),
        "train_seconds": fitted.training.seconds,
        "fit_seconds": None if resumed else fit_seconds,
        "score_seconds": score_seconds,
        "precision": fitted.training.precision,
    }


def _line(row: Mapping[str, Any]) -> str:
    fit = (
        "resumed from a checkpoint"
        if row["fit_seconds"] is None
        else f"fit in all {row['fit_seconds']:.0f} s"
    )
    return (
        f"{row['data']} class {row['class']} anomalous, preset {row['preset']}, seed {row['seed']}: "
        f"AUROC {row['auroc']:.4f}; false alarms {row['false_alarms']:.4f} at {FALSE_ALARM_RATE}, "
        f"detected {row['detected']:.4f}; training {row['train_seconds']:.0f} s, "
        f"{fit}, scoring {row['normal'] + row['anomalous']} images "
        f"{row['score_seconds']:.0f} s ({row['precision']}, {row['threads']} threads)"
    )


def _summary(rows: list[dict[str, Any]]) -> str:
    """Mean over the classes, and the worst, each as the mean over its seeds."""
    means = {
        name: float(np.mean([row["auroc"] for row in rows if row["class"] == name]))
        for name in {row["class"] for row in rows}
    }
    worst = min(means, key=lambda name: means[name])
    alarms = float(np.mean([row["false_alarms"] for row in rows]))
    return (
        f"mean of {len(means)} classes {np.mean(list(means.values())):.4f}, worst {means[worst]:.4f} ({worst}); "
        f"false alarms {alarms:.4f}"
    )


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("data", "preset", "class", "seed", "steps"))


def _file_name(row: Mapping[str, Any]) -> str:
    return "_".join(map(str, _identity(row))) + ".checkpoint"


def _numbers_first(name: str) -> tuple[bool, int, str]:
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)


if __name__ == "__main__":
    main()
