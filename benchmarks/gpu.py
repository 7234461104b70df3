"""What there is to see on a GPU, in at most 8 minutes; one JSON row for each measurement, as soon as it is there.

- `peak`: products of large matrices in fp32, TF32 and bf16, and a copy: what the card gives in this run.
- `training`: a step of `paper` at growing batches: the plain eager loop in fp32, the package's in fp32 and bf16,
  channels first and last; images a second and the share of the card's peak.
- `prediction`: the default preset, batch 64: the networks as they are, channels first, in bf16, and as a CUDA graph;
  then from pixels in memory, and from JPEG files, to verdicts.
- `preset`: each preset is trained on the device, and predicts there and on the processor in fp32: how far the scores
  are apart, and how many verdicts differ.
- `many models`: ten small models, one after the other and on streams of their own.

Measurements that fail are rows with an error; those for which no time is left are rows that say so. The plain loop
has PyTorch's defaults, by which convolutions on a GPU use TF32.

Run: python benchmarks/gpu.py --device cuda --json rows.jsonl
     python benchmarks/gpu.py --device cpu --tiny        (the script itself, where there is no GPU; a minute)
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganomaly import GANomalyDetector
from ganomaly.config import Device, Preprocessing
from ganomaly.data import open_images
from ganomaly.devices import make_fabric
from ganomaly.methods import METHODS, Step
from ganomaly.methods.ganomaly import GANomaly, GANomalyOptions
from ganomaly.prediction import Predictor
from ganomaly.prediction.model import Model
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.tensors import in_channels_last
from ganomaly.training.ranks import Ranks, SharedPrecision
from image_loading import write_photographs
from machine import describe_machine
from operator_counts import count
from plain_loop import plain_optimizers, plain_step, with_plain_convolutions

Work = Callable[[], object]
N_MODELS = 10
SIZE = 32  # of `paper`


class Bench:
    """Where rows go, and how long there is."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.name: Device = arguments.device
        self.device = torch.device(self.name)
        self.tiny: bool = arguments.tiny
        self.path: Path | None = arguments.json
        self.end = time.monotonic() + arguments.seconds
        self.least = 0.02 if self.tiny else 0.5  # seconds of a measurement
        self.peaks: dict[str, float] = {}

    def emit(self, **row: Any) -> None:
        """Print a row, and write it."""
        line = json.dumps(row)
        print(line, flush=True)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(line + "\n")

    @contextmanager
    def row(self, **row: Any) -> Iterator[dict[str, Any]]:
        """A row that the block fills; an error in the block becomes part of it."""
        start = time.perf_counter()
        try:
            yield row
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {str(error)[:300]}"
        self.emit(**row, took=round(time.perf_counter() - start, 2))

    def in_time(self, section: str) -> bool:
        """Whether there is time for more; a row says where there is none."""
        if time.monotonic() < self.end:
            return True
        self.emit(section=section, skipped="no time left")
        return False

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Work) -> float:
        """Mean time of some work, after two runs that do not count."""
        for _ in range(2):
            work()
        self.synchronise()
        start, runs = time.perf_counter(), 0
        while runs < 2 or time.perf_counter() - start < self.least:
            work()
            runs += 1
            if runs % 10 == 0:
                self.synchronise()
        self.synchronise()
        return (time.perf_counter() - start) / runs


def measure_peaks(bench: Bench) -> None:
    """Products and a copy."""
    side = 256 if bench.tiny else 8192
    for name, kind, tf32 in (
        ("fp32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
    ):
        with bench.row(section="peak", of=name) as row:
            before = torch.backends.cuda.matmul.allow_tf32
            torch.backends.cuda.matmul.allow_tf32 = tf32
            left, right = torch.rand(2, side, side, device=bench.device).to(kind)
            bench.peaks[name] = 2 * side**3 / bench.seconds(partial(torch.matmul, left, right))
            torch.backends.cuda.matmul.allow_tf32 = before
            row["tflop_per_second"] = bench.peaks[name] / 1e12
    with bench.row(section="peak", of="copy") as row:
        source = torch.ones(2**20 if bench.tiny else 2**28, device=bench.device)
        target = torch.empty_like(source)
        row["gigabytes_per_second"] = 8 * source.numel() / bench.seconds(lambda: target.copy_(source)) / 1e9


def paper_step(bench: Bench, loop: str, batch: int, *, channels_last: bool = True) -> Work:
    """A training step of `paper`: of the plain loop, or of the package in fp32 or bf16."""
    generator = torch.Generator().manual_seed(0)
    options = GANomalyOptions(ngf=8, ndf=8) if bench.tiny else GANomalyOptions()
    method = GANomaly(options, Preprocessing(image_size=SIZE, channels=1), generator).to(bench.device).train()
    x = (torch.rand(batch, 1, SIZE, SIZE, generator=generator) * 2 - 1).to(bench.device)
    if loop == "plain":
        optimizers = plain_optimizers(with_plain_convolutions(method))
        return lambda: plain_step(method, x, optimizers)
    if channels_last:
        method, x = in_channels_last(method), x.contiguous(memory_format=torch.channels_last)
    fabric = make_fabric(bench.device, "bf16" if loop == "bf16" else "fp32")
    own_optimizers = method.optimizers()
    return lambda: method.training_step(x, own_optimizers, SharedPrecision(fabric, Ranks()), Step(0, 1))


def measure_training(bench: Bench) -> None:
    """Images a second at each batch; ratios to the plain loop at the same batch and at the best of each."""
    batches = (8,) if bench.tiny else (64, 256, 1024, 4096)
    layouts = [("plain", False), ("fp32", False), ("fp32", True), ("bf16", False), ("bf16", True)]
    speeds: dict[tuple[str, bool, int], float] = {}
    for batch in batches:
        for loop, channels_last in layouts:
            if not bench.in_time("training"):
                return
            with bench.row(section="training", loop=loop, channels_last=channels_last, batch=batch) as row:
                step = paper_step(bench, loop, batch, channels_last=channels_last)
                seconds = bench.seconds(step)
                speed = speeds[loop, channels_last, batch] = batch / seconds
                row |= {"images_per_second": speed, "ms": 1000 * seconds}
                needs = count(step)
                peak = bench.peaks.get("bf16" if loop == "bf16" else "fp32", 0.0)
                row |= {"gflop": needs.flop / 1e9, "share_of_peak": peak and needs.flop / seconds / peak}
                if ("plain", False, batch) in speeds:
                    row["over_plain"] = speed / speeds["plain", False, batch]
    own = [speed for (loop, *_), speed in speeds.items() if loop != "plain"]
    plain = [speed for (loop, *_), speed in speeds.items() if loop == "plain"]
    if own and plain:
        bench.emit(section="training", of="best batch of each", over_plain=max(own) / max(plain))


def fitted(bench: Bench, preset: str, n: int = 48, size: int = 96, **options: Any) -> Model:
    """A model that was trained briefly on the device."""
    images = smooth_images(n, size)
    detector = GANomalyDetector(
        preset,
        epochs=1,
        device=bench.name,
        false_alarm_rate=0.1,
        **options,
    )
    model = detector.fit(images).model_
    assert isinstance(model, Model)
    return model


def smooth_images(n: int, size: int, seed: int = 0) -> NDArray[np.uint8]:
    """Gray images with some structure, `uint8[n, size, size]`."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(128, 40, (n, 1, 8, 8)))
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")[:, 0].numpy()
    return (smooth + rng.normal(0, 5, smooth.shape)).clip(0, 255).astype(np.uint8)


def measure_prediction(bench: Bench) -> None:
    """The default preset at batch 64."""
    batch, size = (2, 64) if bench.tiny else (64, 256)
    model = fitted(bench, "features", n=24 if bench.tiny else 48, size=size)
    method = model.method.to(bench.device)
    x = (torch.rand(batch, 1, size, size) * 2 - 1).to(bench.device)
    x_last = x.contiguous(memory_format=torch.channels_last)

    first = copy.deepcopy(method).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def predict(pixels: Tensor, *, bf16: bool = False, by: Any = method) -> object:
        with eval_mode(by), torch.autocast(bench.device.type, torch.bfloat16, enabled=bf16):
            return by.predict(pixels)

    ways: dict[str, Callable[[], Work]] = {
        "as it is": lambda: lambda: predict(x_last),
        "channels first": lambda: lambda: predict(x, by=first),
        "bf16": lambda: lambda: predict(x_last, bf16=True),
        "CUDA graph": lambda: cuda_graph(lambda: predict(x_last)),
    }
    for way, make in ways.items():
        if not bench.in_time("prediction"):
            return
        with bench.row(section="prediction", way=way, batch=batch, size=size) as row:
            if way == "CUDA graph" and bench.device.type != "cuda":
                row["skipped"] = "not on a GPU"
                continue
            start = time.perf_counter()
            work = make()
            work()
            bench.synchronise()
            row["first_seconds"] = time.perf_counter() - start
            row["images_per_second"] = batch / bench.seconds(work)
            if way == "as it is" and bench.peaks:
                with torch.no_grad():
                    needs = count(lambda: method.eval().predict(x_last))
                row["gflop_an_image"] = needs.flop / batch / 1e9
                row["share_of_peak"] = needs.flop / batch * row["images_per_second"] / bench.peaks["fp32"]
    measure_from_pixels(bench, model, batch, size)


def measure_from_pixels(bench: Bench, model: Predictor, batch: int, size: int) -> None:
    """The same from pixels in memory, and from JPEG files of 512×512 px, which have to be decoded and scaled."""
    n = 4 if bench.tiny else 256
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), n)
        for source, dataset in (
            ("pixels in memory", open_images(smooth_images(n, size))),
            ("JPEG files of 512 px", open_images(folder)),
        ):
            if not bench.in_time("prediction"):
                return
            with bench.row(section="prediction", way=source, batch=batch) as row:
                list(model.predict(dataset, batch_size=batch, device=bench.name))
                start = time.perf_counter()
                list(model.predict(dataset, batch_size=batch, device=bench.name))
                row["images_per_second"] = n / (time.perf_counter() - start)


def cuda_graph(work: Work) -> Work:
    """Capture some work as one graph, which then starts without Python."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def measure_presets(bench: Bench) -> None:
    """Train each preset on the device; the same images on the device and on the processor."""
    for name in (preset for method in METHODS.values() for preset in method.presets):
        if not bench.in_time("preset"):
            return
        with bench.row(section="preset", preset=name) as row:
            start = time.perf_counter()
            slow = name == "anogan"  # its search takes hundreds of steps for each image
            small: dict[str, Any] = {}
            if name not in ("features", "patches"):
                small["image_size"] = SIZE
            if slow:
                small["method_options"] = {"search_steps": 5}
            model = fitted(bench, name, n=24 if bench.tiny else 48, size=64 if bench.tiny else 96, **small)
            row |= {
                "fit_seconds": time.perf_counter() - start,
                "trained_in": model.provenance.get("precision"),
                "trained_on": bench.device.type,
            }
            images = open_images(smooth_images(4 if bench.tiny else 32, 64 if bench.tiny else 96, seed=1))
            devices: tuple[Device, ...] = (bench.name, "cpu")
            predictions = {
                device: list(model.predict(images, device=device, details=True)) for device in devices
            }
            there, here = predictions[bench.name], predictions["cpu"]
            scores = np.array([[p.score for p in there], [p.score for p in here]], dtype=np.float64)
            row["largest_relative_difference"] = float(np.abs(scores[0] / scores[1] - 1).max())
            row["verdicts_that_differ"] = sum(
                a.is_anomaly != b.is_anomaly for a, b in zip(there, here, strict=True)
            )
            maps = [(a.anomaly_map, b.anomaly_map) for a, b in zip(there, here, strict=True)]
            if maps[0][0] is not None:
                row["map_difference_of_its_maximum"] = max(
                    float(np.abs(a - b).max() / b.max()) for a, b in maps if a is not None and b is not None
                )
            row["images"] = len(there)


def measure_many_models(bench: Bench) -> None:
    """Ten models of `paper`, a step of each: one after the other, and on streams."""
    if not bench.in_time("many models"):
        return
    batch = 4 if bench.tiny else 64
    for loop in ("fp32", "bf16"):
        with bench.row(section="many models", models=N_MODELS, loop=loop, batch=batch) as row:
            steps = [paper_step(bench, loop, batch) for _ in range(N_MODELS)]
            in_turn = bench.seconds(partial(run_all, steps))
            row["in_turn_images_per_second"] = N_MODELS * batch / in_turn
            if bench.device.type != "cuda":
                row["skipped"] = "streams: not on a GPU"
                continue
            streams = [torch.cuda.Stream() for _ in steps]  # type: ignore[no-untyped-call]

            def on_streams(steps: list[Work] = steps, streams: list[Any] = streams) -> None:
                for step, stream in zip(steps, streams, strict=True):
                    with torch.cuda.stream(stream):
                        step()

            row["on_streams_over_in_turn"] = in_turn / bench.seconds(on_streams)


def run_all(steps: Sequence[Work]) -> None:
    """One step of each."""
    for step in steps:
        step()


def main() -> None:
    """Measure all, the most important first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that a processor can do in a minute")
    parser.add_argument("--seconds", type=float, default=420, help="after which nothing more is begun")
    parser.add_argument("--json", type=Path, help="append the rows to this file")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this PyTorch finds no CUDA GPU; --device cpu --tiny tries the script itself")
    bench = Bench(arguments)
    card = torch.cuda.get_device_name() if bench.device.type == "cuda" else None
    bench.emit(section="machine", card=card, cuda=torch.version.cuda, machine=describe_machine())
    measure_peaks(bench)
    measure_training(bench)
    for section in (measure_prediction, measure_presets, measure_many_models):
        try:
            section(bench)
        except Exception as error:  # the other sections are still worth their time
            bench.emit(section=section.__name__, error=f"{type(error).__name__}: {str(error)[:300]}")


if __name__ == "__main__":
    main()
