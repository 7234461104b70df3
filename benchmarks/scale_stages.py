"""What an image costs in each stage of scoring: list, read, decode, predict, write; one thread, seconds each.

A store is a bucket of moto's S3 server on this machine, behind which a real one has its own latency: the docs count
requests and bytes from here, and the time of a request is an assumption that stands beside each figure.

Run: python benchmarks/scale_stages.py [--images 600] [--side 512] [--model FILE] [--predicted 256] [--json FILE]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from faulty_store import BUCKET, environment, s3_server
from ganomaly.cluster.parts import PartCounts, make_plan
from ganomaly.cluster.worker import PartScorer
from ganomaly.data import ImageArrays, open_images
from ganomaly.data.batch_decoding import InputFormat
from ganomaly.data.resizing import resize_image
from ganomaly.data.sources.remote import RemoteImages
from ganomaly.prediction import load_predictor
from ganomaly.remote import RemoteFile, StoredFile, list_files, read, upload
from machine import describe_machine
from ray_scoring import make_images, make_model


def timed(function: Callable[[Any], object], items: list[Any]) -> NDArray[np.float64]:
    """Seconds of each call."""
    seconds = []
    for item in items:
        start = time.perf_counter()
        function(item)
        seconds.append(time.perf_counter() - start)
    return np.array(seconds)


@contextmanager
def bucket() -> Iterator[RemoteFile]:
    """An empty bucket of a server on this machine."""
    import boto3

    with s3_server() as address:
        os.environ |= environment(f"http://{address}")
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield RemoteFile(f"s3://{BUCKET}/images")


def measure(
    folder: Path, n_images: int, side: int, model: Path | None, n_predicted: int
) -> dict[str, NDArray[np.float64]]:
    """Seconds per image of each stage, a sample of each; rows of `n_predicted` images are written at once."""
    images = make_images(folder, n_images, side)
    model_path = model or make_model(folder, images)
    paths = sorted(images.iterdir())
    stages: dict[str, NDArray[np.float64]] = {}
    stages["list, disk"] = timed(lambda _: open_images(images), [None] * 3) / n_images
    stages["read, disk"] = timed(lambda path: path.read_bytes(), paths)
    predictor = load_predictor(model_path)
    preprocessing = predictor.preprocessing
    dataset = open_images(images)
    shape = InputFormat.of(preprocessing).shape(side, side)
    decoded: list[Any] = []

    def decode(index: int) -> None:
        pixels = dataset.read(index, smallest_side=preprocessing.image_size)
        decoded.append(resize_image(pixels, shape[:2], preprocessing.channels))

    stages["decode"] = timed(decode, list(range(n_images)))
    arrays = ImageArrays(np.stack(decoded[:n_predicted]))
    list(predictor.predict(arrays, fixed_batches=True))  # warm up
    predictions: list[Any] = []

    def predict(_: None) -> None:
        predictions[:] = predictor.predict(arrays, fixed_batches=True)

    stages["predict"] = timed(predict, [None] * 5) / len(arrays)
    writer = PartScorer.__new__(PartScorer)
    writer._out, writer._columns = (
        folder,
        ("path", "score", "normalized_score", "p_value", "is_anomaly", "error"),
    )
    from ganomaly.outputs.tables import arrow_row

    def write(part: int) -> None:
        rows = [{"index": p.index, **arrow_row(p, writer._columns)} for p in predictions]
        writer._write(part, rows, PartCounts(len(rows), 0, 0, 0))

    stages["write, disk"] = timed(write, list(range(5))) / len(arrays)
    with bucket() as store:
        for path in paths[:200]:
            upload(path, store / path.name)
        stages["list, store"] = timed(lambda _: list_files(store), [None] * 3) / 200
        stages["read, store"] = timed(lambda path: read(store / path.name), paths[:200])
    return stages


def measure_driver(n_images: int = 20_000) -> dict[str, float]:
    """What an image costs the process that lists and describes: seconds, and bytes of memory and description."""
    from ray import cloudpickle

    tracemalloc.start()
    files = [
        StoredFile(
            RemoteFile(f"s3://scale/line-3/2026-11-27/{number:09}.jpg"), f"{number:09}.jpg", 60_000, number
        )
        for number in range(n_images)
    ]
    held = tracemalloc.get_traced_memory()[0] / n_images
    tracemalloc.stop()
    dataset = RemoteImages(files, "listed")
    start = time.perf_counter()
    plan = make_plan(dataset, "", 100)
    parts = [cloudpickle.dumps(dataset.part(*plan.bounds(part))) for part in range(plan.n_parts)]  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - start
    return {
        "describe_seconds": seconds / n_images,
        "held_bytes": held,
        "description_bytes": sum(map(len, parts)) / n_images,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--model", type=Path, help="one of preset paper at 64 px is trained if left out")
    parser.add_argument("--predicted", type=int, default=256, help="images that are predicted, 5 times")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        stages = measure(Path(folder), arguments.images, arguments.side, arguments.model, arguments.predicted)
        size = statistics.mean(path.stat().st_size for path in (Path(folder) / "images").iterdir())
    model = arguments.model or "preset paper at 64 px"
    print(f"JPEG of {arguments.side} px, {size / 1000:.0f} kB, {model}; ms per image")
    for name, seconds in stages.items():
        low, median, high = np.percentile(seconds, [5, 50, 95]) * 1000
        print(f"{name:12} {median:8.3f}  ({low:.3f} … {high:.3f})")
    driver = measure_driver()
    print(
        f"driver      {driver['describe_seconds'] * 1000:8.3f}  to describe; it holds "
        f"{driver['held_bytes']:.0f} bytes, Ray {driver['description_bytes']:.0f}"
    )
    if arguments.json is not None:
        content = {
            "bytes": size,
            "driver": driver,
            "stages": {name: list(map(float, v)) for name, v in stages.items()},
        }
        arguments.json.write_text(json.dumps(content))


if __name__ == "__main__":
    main()
