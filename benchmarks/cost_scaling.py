"""Time and memory against the size of the work, with exponents: y ∝ x^e, by least squares of the logarithms.

- `fit, images`, `score, images`: commands with the preset `paper`, one epoch, over gray JPEG files of 64×64 px.
- `predict, side`: one gray image, its pixels in memory; pixels grow with the square, so linear is an exponent of 2.
- `bank, rows`: a memory bank of the default preset: distances of 1,024 positions, and its fit.
- `step, batch` and `predict, batch`: the preset `paper`, networks alone.

Each point is a process of its own, whose memory is that at its peak; constants (Python, PyTorch, kernels) are part of
it. They hide the exponent at small sizes, so the exponent of the last two points stands beside that of all.

`--large N` does one thing: `ganomaly fit` of N gray JPEG files of 256×256 px, and says whether it stayed under
4,000 MB. Points that stand in the file of `--json` are not measured again.

Run: python benchmarks/cost_scaling.py [--quick] [--axes "predict, side;bank, rows"] [--threads 1,2] [--json FILE]
         [--plot FILE.png]
     python benchmarks/cost_scaling.py --large 100000 [--preset paper]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from machine import describe_load, describe_machine
from workers import peak_megabytes, timed

Row = dict[str, Any]

AXES: dict[str, tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]]] = {
    # what is measured, sizes, sizes of --quick
    "fit, images": (("paper",), (100, 1000, 10_000, 100_000), (100, 1000)),
    "score, images": (("paper",), (100, 1000, 10_000, 100_000), (100, 1000)),
    "predict, side": (
        ("features", "patches", "paper"),
        (64, 128, 256, 512, 1024, 2048, 4096, 8192),
        (64, 256, 512),
    ),
    "bank, rows": (("distances", "fit"), (1024, 2048, 4096, 8192, 16_384, 32_768), (1024, 2048, 4096)),
    "step, batch": (("paper",), (2, 4, 8, 16, 32, 64, 128, 256), (8, 16, 32)),
    "predict, batch": (("paper",), (1, 2, 4, 8, 16, 32, 64, 128, 256), (8, 16, 32)),
}
CLOCKS = {"wall": "seconds", "processor": "processor_seconds"}
CHANNELS = 112  # of the features in the bank
POSITIONS = 1024
SAMPLE = 200  # different images; the others are links to them
LARGE_BAR = 4000  # MB


def write_images(folder: Path, n: int, side: int) -> Path:
    """Write n gray JPEG files with some structure."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(n):
        path = folder / f"{number:06}.jpg"
        if number >= SAMPLE:
            path.hardlink_to(folder / f"{number % SAMPLE:06}.jpg")
            continue
        coarse = Image.fromarray(rng.integers(60, 200, (8, 8), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)
    return folder


def run_command(*arguments: str) -> Row:
    """What a command of the package takes."""
    start = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "ganomaly", *arguments],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"ganomaly {arguments[0]} ended with status {os.waitstatus_to_exitcode(status)}")
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_megabytes": usage.ru_maxrss / 1024,
    }


def fit_command(images: Path, model: Path, preset: str, *options: str) -> Row:
    """The same of `ganomaly fit`."""
    return run_command("fit", str(images), "--model", str(model), "--preset", preset, *options)


def command_point(axis: str, what: str, x: int, folder: Path) -> Row:
    """Fit or score x images from the shell."""
    images, model = write_images(folder / "images", x, 64), folder / "model.safetensors"
    options = ("--epochs", "1", "--false-alarm-rate", "0.05", "--no-resume")
    if axis.startswith("fit"):
        return fit_command(images, model, what, *options)
    fit_command(write_images(folder / "few", 100, 64), model, what, *options)
    return run_command("score", str(model), str(images), "--out", str(folder / "scores.csv"))


def process_point(axis: str, what: str, x: int) -> Row:
    """Measure in this process; PyTorch is imported here, so that the parent stays small."""
    work = {
        "predict, side": predicted_image,
        "bank, rows": memory_bank,
        "step, batch": training_step,
        "predict, batch": predicted_batch,
    }[axis](what, x)
    first = timed(work)
    again = max(3, min(10, round(2 / first["seconds"])))
    runs = [first] if first["seconds"] > 5 else [timed(work) for _ in range(again)]
    medians = {clock: float(np.median([run[clock] for run in runs])) for clock in first}
    return medians | {"peak_megabytes": peak_megabytes()}


def predicted_image(preset: str, side: int) -> Callable[[], object]:
    """One image of this side, by a model of images of at most 256 px."""
    from ganomaly import GANomalyDetector
    from ganomaly.data import open_images

    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (24, min(side, 256), min(side, 256)), dtype=np.uint8)
    model = GANomalyDetector(preset, epochs=1, false_alarm_rate=0.2).fit(images).model_
    dataset = open_images(rng.integers(0, 255, (1, side, side), dtype=np.uint8))

    def work() -> None:
        (prediction,) = model.predict(dataset, details=True)
        assert prediction.score is not None, prediction.error

    return work


def memory_bank(what: str, rows: int) -> Callable[[], object]:
    """Distances of a feature map to a bank, or the bank's fit, of features of some images."""
    import torch

    from ganomaly.methods.neighbours import PositionMemoryBank

    generator = torch.Generator().manual_seed(0)
    bank = PositionMemoryBank(CHANNELS, rows)
    maps = [torch.randn(CHANNELS, 32, 32, generator=generator) for _ in range(max(8, rows // 256))]

    def fit() -> None:
        with torch.inference_mode():
            bank.fit(maps, generator)

    fit()
    x = torch.randn(1, CHANNELS, 32, POSITIONS // 32, generator=generator)

    def distances() -> object:
        with torch.inference_mode():
            return bank(x)

    return fit if what == "fit" else distances


def training_step(preset: str, batch: int) -> Callable[[], object]:
    """A step in fp32."""
    import torch

    from ganomaly.devices import choose_device, make_fabric
    from ganomaly.methods import Step
    from ganomaly.training.ranks import Ranks, SharedPrecision

    method, x = _method(preset, batch)
    method.train()
    precision = SharedPrecision(make_fabric(choose_device("cpu"), "fp32"), Ranks())
    optimizers = method.optimizers()
    x = x.contiguous(memory_format=torch.channels_last)
    return lambda: method.training_step(x, optimizers, precision, Step(0, 1))


def predicted_batch(preset: str, batch: int) -> Callable[[], object]:
    """The networks of a prediction."""
    from ganomaly.prediction.pytorch import eval_mode

    method, x = _method(preset, batch)

    def work() -> object:
        with eval_mode(method):
            return method.predict(x)

    return work


def _method(preset: str, batch: int) -> tuple[Any, Any]:
    import torch

    from ganomaly.config import Preprocessing
    from ganomaly.methods import find_preset
    from ganomaly.tensors import in_channels_last

    generator = torch.Generator().manual_seed(0)
    method_type, configuration = find_preset(preset)
    method = method_type(configuration.options, Preprocessing(image_size=32, channels=1), generator)
    return in_channels_last(method), torch.rand(batch, 1, 32, 32, generator=generator) * 2 - 1


def exponents(rows: Sequence[Row], value: str) -> tuple[float, float]:
    """Of all points, and of the last two."""
    x, y = (np.log([row[name] for row in rows]) for name in ("x", value))
    return float(np.polyfit(x, y, 1)[0]), float((y[-1] - y[-2]) / (x[-1] - x[-2]))


def measure(axis: str, what: str, x: int, threads: int) -> Row:
    """A point, in a process of its own."""
    point = json.dumps({"axis": axis, "what": what, "x": x})
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": "20000"}
    command = [sys.executable, __file__, "--point", point]
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    row: Row = {"axis": axis, "what": what, "x": x, "threads": threads}
    if ended.returncode:
        return row | {"error": f"status {ended.returncode}"}
    row.update(json.loads(ended.stdout.splitlines()[-1]))
    return row


def print_lines(rows: Sequence[Row], clock: str) -> None:
    """A line for each curve."""
    keys = list(dict.fromkeys((row["axis"], row["what"], row["threads"]) for row in rows))
    print(
        "| axis | of | threads | from–to | time, s | memory, MB | time: exponent, of the last two "
        "| memory: exponent, of the last two |\n" + "| --- " * 8 + "|"
    )
    for key in keys:
        curve = sorted(
            (row for row in rows if (row["axis"], row["what"], row["threads"]) == key and "seconds" in row),
            key=lambda row: row["x"],
        )
        if len(curve) < 2:
            continue
        first, last = curve[0], curve[-1]
        time_all, time_last = exponents(curve, clock)
        memory_all, memory_last = exponents(curve, "peak_megabytes")
        print(
            f"| {key[0]} | {key[1]} | {key[2]} | {first['x']:,}–{last['x']:,} "
            f"| {first[clock]:.3g}–{last[clock]:.3g} "
            f"| {first['peak_megabytes']:,.0f}–{last['peak_megabytes']:,.0f} "
            f"| {time_all:.2f}, {time_last:.2f} | {memory_all:.2f}, {memory_last:.2f} |"
        )
    for row in rows:
        if "error" in row:
            print(f"{row['axis']} {row['x']:,}, {row['what']}, {row['threads']} thread(s): {row['error']}")


def plot(rows: Sequence[Row], path: Path, clock: str) -> None:
    """Time and memory of each curve, on logarithmic axes."""
    from matplotlib.figure import Figure

    axes_names = list(dict.fromkeys(row["axis"] for row in rows))
    figure = Figure(figsize=(3 * len(axes_names), 5), layout="constrained")
    panels = figure.subplots(2, len(axes_names), squeeze=False, sharex="col")
    for column, axis in enumerate(axes_names):
        of_axis = sorted((row for row in rows if row["axis"] == axis), key=lambda row: row["x"])
        for name, panel in zip((clock, "peak_megabytes"), panels[:, column], strict=True):
            for key in dict.fromkeys((row["what"], row["threads"]) for row in of_axis):
                curve = [row for row in of_axis if (row["what"], row["threads"]) == key and name in row]
                label = f"{key[0]}, {key[1]} thread(s)"
                panel.loglog([row["x"] for row in curve], [row[name] for row in curve], "o-", label=label)
            panel.set_ylabel("MB at the peak" if name == "peak_megabytes" else "s")
        panels[0, column].set_title(axis)
        panels[0, column].legend(fontsize=6)
    figure.savefig(path, dpi=80)


def fit_large(n: int, preset: str, epochs: int | None) -> None:
    """Fit many images of 256 px and say what it took."""
    options = () if epochs is None else ("--epochs", str(epochs))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = write_images(folder / "images", n, 256)
        took = fit_command(images, folder / "model.safetensors", preset, *options)
    peak = took["peak_megabytes"]
    verdict = "under" if peak < LARGE_BAR else "NOT under"
    print(
        f"{n:,} images of 256 px, preset {preset}: {took['seconds']:,.0f} s, peak {peak:,.0f} MB, "
        f"{verdict} {LARGE_BAR:,} MB"
    )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes alone")
    parser.add_argument("--axes", default=";".join(AXES), help="names, separated by semicolons")
    parser.add_argument("--largest", type=int, default=10**9, help="leave out sizes above this")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: beside other programs")
    parser.add_argument(
        "--json", type=Path, help="append the rows to this file, as they come; those it has stay"
    )
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--large", type=int, metavar="N")
    parser.add_argument("--preset", default="features", help="of --large")
    parser.add_argument("--epochs", type=int, help="of --large")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point is not None:
        axis, what, x = arguments.point["axis"], arguments.point["what"], arguments.point["x"]
        if axis.endswith("images"):
            with tempfile.TemporaryDirectory() as temporary:
                print(json.dumps(command_point(axis, what, x, Path(temporary))))
        else:
            print(json.dumps(process_point(axis, what, x)))
        return
    print(describe_machine(), describe_load(), sep="\n", flush=True)
    if arguments.large is not None:
        fit_large(arguments.large, arguments.preset, arguments.epochs)
        return
    rows: list[Row] = []
    if arguments.json is not None and arguments.json.exists():
        rows = [json.loads(line) for line in arguments.json.read_text().splitlines()]
    there = {(row["axis"], row["what"], row["x"], row["threads"]) for row in rows}
    for axis in arguments.axes.split(";"):
        whats, sizes, quick = AXES[axis]
        for threads in map(int, arguments.threads.split(",")):
            for what in whats:
                for x in quick if arguments.quick else sizes:
                    if x > arguments.largest or (axis, what, x, threads) in there:
                        continue
                    rows.append(measure(axis, what, x, threads))
                    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                    if arguments.json is not None:
                        with arguments.json.open("a") as file:
                            file.write(json.dumps(rows[-1] | {"machine": describe_machine()}) + "\n")
    print_lines(rows, CLOCKS[arguments.clock])
    print(describe_load())
    if arguments.plot is not None:
        plot(rows, arguments.plot, CLOCKS[arguments.clock])


if __name__ == "__main__":
    main()
