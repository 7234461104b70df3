"""Scoring with Ray against plain `score` on the same processors: images/s, memory, killed workers, a lost machine.

Images are JPEG, large beside the network input, so that decoding takes most of the time, as it does for photographs.
Each run is a process of its own; rates count from the first part that is done to the last, since Ray takes some
seconds to start whatever the number of images; the whole time stands beside.

Run: python benchmarks/ray_scoring.py speed|memory|kills|nodes [--images 4000] [--side 512] [--rounds 1] [--kills 20]
       [--model FILE]
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ganomaly import GANomalyDetector
from ganomaly.cluster.scoring import score_in_parts
from ganomaly.data import open_images
from ganomaly.prediction import load_predictor
from machine import describe_machine

LOCAL = 0
"""Number of workers that stands for plain `score`."""


def make_images(folder: Path, n_images: int, side: int) -> Path:
    """A folder of `n_images` JPEG; 64 different ones, the others are links to them."""
    generator = np.random.default_rng(0)
    images = folder / "images"
    images.mkdir()
    for number in range(min(n_images, 64)):
        coarse = Image.fromarray(generator.integers(60, 200, (side // 8, side // 8, 3), dtype=np.uint8))
        coarse.resize((side, side)).save(images / f"{number:07}.jpg", quality=92)
    for number in range(64, n_images):
        (images / f"{number:07}.jpg").symlink_to(f"{number % 64:07}.jpg")
    return images


def make_model(folder: Path, images: Path) -> Path:
    """A model of the preset `paper`, trained briefly."""
    path = folder / "model.safetensors"
    training = [str(path) for path in sorted(images.iterdir())[:64]]
    GANomalyDetector("paper", epochs=1, image_size=64, false_alarm_rate=0.05, seed=0).fit(training).save(path)
    return path


def rows_of(out: Path) -> pa.Table:
    """All rows of a folder of parts, in the order of their names."""
    return pa.concat_tables([pq.read_table(part) for part in sorted(out.glob("part-*.parquet"))])


def check_rows(out: Path, n_images: int) -> None:
    """Each image is exactly one row, in order."""
    indices = rows_of(out)["index"].to_pylist()
    if indices != list(range(n_images)):
        raise SystemExit(f"{len(indices)} rows, {len(set(indices))} different ones, for {n_images} images")


def check_equal_to_score(out: Path, local: Path) -> None:
    """The rows of a folder of parts are those of plain `score` in the folder `local`, bit for bit."""
    scored, expected = rows_of(out).drop_columns(["index"]), pq.read_table(local / "table.parquet")
    is_equal = scored.equals(expected)
    print(f"rows equal to those of score, bit for bit: {is_equal}")
    if not is_equal:
        raise SystemExit(f"{scored.num_rows} rows of Ray, {expected.num_rows} of score, and they differ")


def timed_run(model: Path, images: Path, out: Path, n_workers: int) -> dict[str, float]:
    """Score in this process; seconds in all, and images/s between the first and the last sign of progress.

    One worker gets one processor: with two it would decode on the other.
    """
    if n_workers == 1:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    begin = time.perf_counter()
    dataset = open_images(images)
    marks: list[tuple[float, int]] = []

    def on_progress(done: int) -> None:
        marks.append((time.perf_counter(), done))

    if n_workers == LOCAL:
        with open_rows(out) as write:
            for prediction in load_predictor(model).predict(dataset, fixed_batches=True):
                write(prediction)
                if prediction.index % 64 == 63:
                    on_progress(prediction.index + 1)
    else:
        score_in_parts(model, dataset, out, n_workers=n_workers, on_progress=on_progress)
    marks = [mark for mark in marks if mark[1]]
    (first, n_first), (last, n_last) = marks[0], marks[-1]
    return {
        "seconds": time.perf_counter() - begin,
        "rate": (n_last - n_first) / (last - first),
    }


@contextmanager
def open_rows(out: Path) -> Iterator[Any]:
    """The table that plain `score` writes."""
    from ganomaly.outputs import open_table

    out.mkdir(parents=True)
    with open_table(out / "table.parquet") as write:
        yield write


def in_own_process(*arguments: object) -> dict[str, float]:
    """The figures of one run in a new process, so that no run warms another up."""
    command = [sys.executable, __file__, "one", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def speed(folder: Path, model: Path, images: Path, rounds: int, json_path: Path | None) -> None:
    """Print images/s of plain `score` and of Ray with 1 and 2 workers, in turn."""
    figures: dict[int, list[dict[str, float]]] = {LOCAL: [], 1: [], 2: []}
    for number in range(rounds):
        for n_workers, runs in figures.items():
            runs.append(in_own_process(model, images, folder / f"{number}-{n_workers}", n_workers))
    n_images = sum(1 for _ in images.iterdir())
    rates = {n: statistics.median(run["rate"] for run in runs) for n, runs in figures.items()}
    for n_workers, runs in figures.items():
        name = "score" if n_workers == LOCAL else f"Ray, {n_workers} worker{'s' if n_workers > 1 else ''}"
        seconds = statistics.median(run["seconds"] for run in runs)
        print(
            f"{name:15} {rates[n_workers]:7.0f} images/s after the start, {n_images / seconds:6.0f} in all "
            f"({seconds:.0f} s)"
        )
    print(f"2 workers over twice 1 worker: {rates[2] / (2 * rates[1]):.2f}")
    print(f"2 workers over score on the same processors: {rates[2] / rates[LOCAL]:.2f}")
    if json_path is not None:
        seconds = statistics.median(run["seconds"] for run in figures[1])
        start = seconds - n_images / rates[1]
        json_path.write_text(json.dumps({"images": n_images, "rates": rates, "start_seconds": start}))
    check_equal_to_score(folder / "0-2", folder / f"0-{LOCAL}")


def own_workers() -> list[int]:
    """Processes of Ray's workers among the descendants of this one."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
                names[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1])

    def is_own(process: int) -> bool:
        while process in parents:
            process = parents[process]
            if process == own:
                return True
        return False

    own = os.getpid()
    return [
        pid for pid, name in names.items() if name.startswith(b"ray::") and b"Map" in name and is_own(pid)
    ]


def resident_bytes(process: int) -> int:
    """Memory of a process that it shares with no file."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def memory(folder: Path, model: Path, images: Path) -> None:
    """Print the memory of workers over a run, whose rows must be those of plain `score`."""
    samples: list[tuple[float, int]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            samples.append((time.perf_counter(), max(map(resident_bytes, own_workers()), default=0)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    figures = timed_run(model, images, folder / "memory", 2)
    ended.set()
    watcher.join()
    check_rows(folder / "memory", sum(1 for _ in images.iterdir()))
    sizes = [size for _, size in samples if size > 2**27]  # after PyTorch is loaded
    medians = [statistics.median(quarter) / 1e6 for quarter in np.array_split(sizes, 4)]
    print(
        f"2 workers, {figures['rate']:.0f} images/s: the larger takes {max(sizes) / 1e6:.0f} MB at most; medians of "
        f"the quarters of the run: {', '.join(f'{median:.0f}' for median in medians)} MB"
    )
    in_own_process(model, images, folder / "local", LOCAL)
    check_equal_to_score(folder / "memory", folder / "local")


def kills(folder: Path, model: Path, images: Path, n_kills: int) -> None:
    """Kill workers at random moments; every image must be one row, with the score of an undisturbed run."""
    n_images = sum(1 for _ in images.iterdir())
    generator = random.Random(0)
    ended = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        while not ended.wait(generator.uniform(0.5, 4.0)) and len(killed) < n_kills:
            workers = [pid for pid in own_workers() if resident_bytes(pid) > 2**27]
            if workers:
                victim = generator.choice(workers)
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

    run = 0
    while len(killed) < n_kills:
        ended.clear()
        killer = threading.Thread(target=kill)
        killer.start()
        timed_run(model, images, folder / f"killed-{run}", 2)
        ended.set()
        killer.join()
        check_rows(folder / f"killed-{run}", n_images)
        run += 1
    timed_run(model, images, folder / "undisturbed", 2)
    undisturbed = rows_of(folder / "undisturbed")
    same = all(rows_of(folder / f"killed-{i}").equals(undisturbed) for i in range(run))
    print(
        f"{len(killed)} workers killed in {run} runs of {n_images} images: each one row, as undisturbed: {same}"
    )
    if not same:
        raise SystemExit("rows differ from those of an undisturbed run")


def nodes(folder: Path, model: Path, images: Path) -> None:
    """A cluster of three machines on this one, of which one is lost when a third of the images is done."""
    from ganomaly.cluster.session import import_ray

    ray = import_ray()
    from ray.cluster_utils import Cluster

    n_images = sum(1 for _ in images.iterdir())
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    others = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    lost: list[int] = []

    def on_progress(done: int) -> None:
        if done >= n_images / 3 and not lost:
            lost.append(done)
            cluster.remove_node(others[0], allow_graceful=False)

    try:
        score_in_parts(model, open_images(images), folder / "nodes", n_workers=3, on_progress=on_progress)
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]
    check_rows(folder / "nodes", n_images)
    print(f"3 machines, one lost after {lost[0]} of {n_images} images: each image one row")


def main() -> None:
    """Run what is asked for."""
    if sys.argv[1:2] == ["one"]:
        model, images, out, n_workers = sys.argv[2:]
        print(json.dumps(timed_run(Path(model), Path(images), Path(out), int(n_workers))))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["speed", "memory", "kills", "nodes"], default="speed")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", type=Path, help="one of preset paper at 64 px is trained if left out")
    parser.add_argument("--json", type=Path, help="figures of speed, for scale_simulation.py")
    arguments = parser.parse_args()
    print(describe_machine())
    print(
        f"{arguments.images} JPEG of {arguments.side} px, {arguments.model or 'preset paper at 64 px, seed 0'}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        image_folder = make_images(folder, arguments.images, arguments.side)
        model_path = arguments.model or make_model(folder, image_folder)
        if arguments.what == "speed":
            speed(folder, model_path, image_folder, arguments.rounds, arguments.json)
        elif arguments.what == "memory":
            memory(folder, model_path, image_folder)
        elif arguments.what == "kills":
            kills(folder, model_path, image_folder, arguments.kills)
        else:
            nodes(folder, model_path, image_folder)


if __name__ == "__main__":
    main()
