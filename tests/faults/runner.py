"""A process that runs commands in forks of itself, so that PyTorch is imported once for thousands of tries.

It reads requests as JSON lines: a list of runs that start together, each with `argv` and optional faults. It answers
with a list of results. Run as a script by `harness.Runner`.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

ACTIONS = (
    "off",
    "count",
    "kill before",
    "kill after",
    "fail from",
    "fail once",
    "short",
    "interrupt",
    "slow",
)
MODULES = (
    "onnx",
    "onnxruntime",
    "openvino",
    "PIL.PngImagePlugin",
    "pyarrow.parquet",
    "sklearn.manifold",
    "torch._dynamo",
    "ganomaly.cli",
    "ganomaly.prediction.exported",
    *(f"ganomaly.commands.{name}" for name in ("benchmark", "demo", "evaluate", "export", "fit", "score")),
)
NOBODY = 65534
POLL_SECONDS = 0.002


def import_everything() -> None:
    for name in MODULES:
        import_module(name)
    import torch

    from ganomaly.outputs.report.figures import make_figure

    torch.set_num_threads(1)
    figure, axes = make_figure(1, 1)
    axes.set_title("fonts are read once")
    figure.savefig(os.devnull, format="png")


def prepare(run: dict[str, Any], layer: ctypes.CDLL | None) -> None:
    """Apply to this fork what a run asks for."""
    if "checkpoint_seconds" in run:
        shorten_checkpoints(run["checkpoint_seconds"])
    if "small" in run:
        from ganomaly.benchmark import tasks
        from ganomaly.commands import demo
        from ganomaly.config import FitOptions

        demo.N_TRAIN, demo.N_TEST_NORMAL, demo.N_TEST_PER_THREAT = 40, 6, 4
        options = {"ngf": 4, "ndf": 4}
        demo.OPTIONS = FitOptions(
            preset="paper", epochs=2, image_size=32, false_alarm_rate=0.1, method_options=options
        )
        tasks._BAGGAGE_TRAIN, tasks._BAGGAGE_TEST_NORMAL, tasks._BAGGAGE_TEST_PER_THREAT = 40, 8, 6
    if "graph" in run:
        use_graph(Path(run["graph"]))
    if "clock_seconds" in run:
        assert layer is not None
        layer.faults_shift_clock(run["clock_seconds"])
    if "wait_for" in run:  # until the file has content
        path = Path(run["wait_for"])
        while not (path.exists() and path.stat().st_size > 0):
            time.sleep(POLL_SECONDS)
    if "sleep" in run:
        time.sleep(run["sleep"])
    if "memory_headroom_bytes" in run:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + run["memory_headroom_bytes"],) * 2)
    if "file_bytes" in run:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (run["file_bytes"],) * 2)
    if run.get("as_nobody"):
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def shorten_checkpoints(seconds: float) -> None:
    from ganomaly.methods import Preset

    training_for = Preset.training_for

    def with_short_intervals(self: Preset, *arguments: Any, **options: Any) -> Any:
        training = training_for(self, *arguments, **options)
        return training.model_copy(update={"checkpoint_seconds": seconds})

    mock.patch.object(Preset, "training_for", with_short_intervals).start()


def use_graph(path: Path) -> None:
    """Export a graph that was made before, since making one takes long and touches no output."""
    import onnx

    from ganomaly.commands import export

    def made_before(model: object) -> onnx.ModelProto:
        return onnx.load(path)

    mock.patch.object(export, "to_onnx", made_before).start()


def run_in_fork(run: dict[str, Any], layer: ctypes.CDLL | None) -> int:
    """Start a run; return the id of its process."""
    process = os.fork()
    if process:
        return process
    status = 70
    try:
        os.setpgid(0, 0)
        log = os.open(run["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        sys.argv = ["ganomaly", *run["argv"]]
        prepare(run, layer)
        from ganomaly.cli import main

        if layer is not None and "action" in run:
            action = ACTIONS.index(run["action"])
            layer.faults_arm(run["folder"].encode(), action, run.get("at", 0), run.get("errno", 0))
        try:
            main()
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if layer is not None and "action" in run:
            layer.faults_arm(b"", 0, 0, 0) if run["action"] != "count" else None
            print(f"operations: {layer.faults_count()}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def wait(runs: list[dict[str, Any]], processes: list[int]) -> list[dict[str, Any]]:
    """Wait for all runs; kill those whose time has come."""
    started = time.perf_counter()
    results: list[dict[str, Any] | None] = [None] * len(runs)
    while None in results:
        elapsed = time.perf_counter() - started
        for number, (run, process) in enumerate(zip(runs, processes, strict=True)):
            if results[number] is not None:
                continue
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                results[number] = {
                    "status": os.waitstatus_to_exitcode(status),
                    "seconds": elapsed,
                    "timed_out": elapsed > run["limit"],
                }
                end_group(process)
            elif elapsed > run["limit"]:
                os.kill(process, signal.SIGKILL)
            elif elapsed > run.get("kill_after", float("inf")) or (
                run.get("kill_with_last") and results.count(None) == 1
            ):
                os.kill(process, run.get("signal", signal.SIGKILL))
                run["kill_after"] = float("inf")
        time.sleep(POLL_SECONDS)
    return [result for result in results if result is not None]


def end_group(process: int) -> None:
    """Give the workers of a killed command a moment to end by themselves, and kill those that did not."""
    for _ in range(500):
        try:
            os.killpg(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    os.killpg(process, signal.SIGKILL)


def serve() -> None:
    import_everything()
    layer = None
    if "LD_PRELOAD" in os.environ:
        layer = ctypes.CDLL(os.environ["LD_PRELOAD"])
        layer.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int]
        layer.faults_count.restype = ctypes.c_long
        layer.faults_shift_clock.argtypes = [ctypes.c_long]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        runs = json.loads(line)
        processes = [run_in_fork(run, layer) for run in runs]
        print(json.dumps(wait(runs, processes)), file=answers)


if __name__ == "__main__":
    serve()
