"""Tasks on Ray: each is a call of a function, in a process of one of the machines."""

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from ganomaly.cluster.scoring import Workers, choose_workers
from ganomaly.cluster.session import ray_message, ray_session
from ganomaly.errors import EngineError
from ganomaly.files import remove_file, written_whole
from ganomaly.remote import Location, RemoteFile
from ganomaly.workers import call_with_threads

Item = TypeVar("Item")
Result = TypeVar("Result")

MARK = ".ganomaly.ray"
TRIES = 2
"""Of a task whose process dies: it may have been its machine's fault."""


def run_on_ray(
    function: Callable[[Item], Result], items: Sequence[Item], *, n_workers: int | None = None, out: Location
) -> Iterator[tuple[int, Result | None]]:
    """Call a function with each of the items on Ray, those that come first first.

    A task whose process dies is tried once more, after the others.

    Parameters
    ----------
    function : callable
        Of a module, so that other processes find it.
    items : sequence
        What it is called with; it goes to another process, and so does the result.
    n_workers : int, optional
        Tasks at a time; one for each GPU, or else for each processor, if left out. They divide the processors.
    out : Path or RemoteFile
        Folder to which the function writes, which all machines must have; one in a store they all reach.

    Yields
    ------
    (int, result)
        Position of the item and the result, as they come; None where the process has died.

    Raises
    ------
    UsageError
        If Ray is not installed.
    EngineError
        If Ray does not start, cannot run a task, or a machine does not have the folder.
    """
    if not items:
        return
    with ray_session() as ray, _marked(out) as mark:
        machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
        workers = choose_task_workers(machines, n_workers)
        task = ray.remote(_run).options(
            num_cpus=workers.processors, num_gpus=workers.gpus or None, max_retries=0
        )
        waiting = deque((position, 1) for position in range(len(items)))
        running: dict[Any, tuple[int, int]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers.number:
                    position, number = waiting.popleft()
                    reference = task.remote(function, items[position], workers, Path.cwd(), mark)
                    running[reference] = position, number
                (done,), _ = ray.wait(list(running), num_returns=1)
                position, number = running.pop(done)
                try:
                    result: Result = _result(ray, done, out)
                except _DiedError:
                    if number == TRIES:
                        yield position, None
                    else:
                        waiting.append((position, number + 1))
                else:
                    yield position, result
        finally:
            for reference in running:  # on a cluster that goes on without this process
                with suppress(Exception):
                    ray.cancel(reference, force=True)


def choose_task_workers(machines: Sequence[dict[str, float]], number: int | None) -> Workers:
    """One worker for each GPU or processor of a cluster; fewer have more processors, of one machine each.

    >>> choose_task_workers([{"CPU": 2.0}], None)
    Workers(number=2, processors=1, gpus=0, threads=1)
    >>> choose_task_workers([{"CPU": 2.0}], 8)
    Workers(number=8, processors=0.25, gpus=0, threads=1)
    >>> choose_task_workers([{"CPU": 3.0}, {"CPU": 3.0}], 3)
    Workers(number=3, processors=1, gpus=0, threads=1)
    >>> choose_task_workers([{"CPU": 16.0, "GPU": 2.0}], None)
    Workers(number=2, processors=0.5, gpus=1, threads=8)
    """
    total = {name: sum(machine.get(name, 0.0) for machine in machines) for name in ("CPU", "GPU")}
    workers = choose_workers(total, number, "auto")
    if workers.gpus:
        return workers
    threads = max(1, int(total["CPU"]) // workers.number)
    # a worker fits where a machine has its processors
    while threads > 1 and sum(int(machine.get("CPU", 0) // threads) for machine in machines) < workers.number:
        threads -= 1
    # whole processors, where workers of Ray Data have halves: no task of Ray's own is waited for here
    share = min(threads, total["CPU"] / workers.number)
    return replace(workers, processors=share, threads=threads)


@dataclass(frozen=True)
class _Mark:
    """A file in a folder, by which other machines see whether they have the same folder."""

    file: Path
    content: str

    def is_here(self) -> bool:
        try:
            return self.file.read_text() == self.content
        except (OSError, UnicodeDecodeError):
            return False


@contextmanager
def _marked(folder: Location) -> Iterator[_Mark | None]:
    """Mark a folder while the block runs; what a killed run left is written over. One in a store needs no mark."""
    if isinstance(folder, RemoteFile):
        yield None
        return
    mark = _Mark(folder.absolute() / MARK, uuid4().hex)
    try:
        with written_whole(mark.file) as part:
            part.write_text(mark.content)
        yield mark
    finally:
        remove_file(mark.file)


def _result(ray: Any, reference: Any, out: Location) -> Any:
    """What a task gave back."""
    dead = ray.exceptions
    try:
        result, without = ray.get(reference)
    except (dead.WorkerCrashedError, dead.OutOfMemoryError, dead.NodeDiedError, dead.ObjectLostError):
        raise _DiedError from None
    except dead.RayError as error:
        raise EngineError(f"Ray cannot run a task: {ray_message(error)}") from error
    if without is not None:
        raise EngineError(
            f"{out} is not the same folder on {without} as here; let --out be one that all machines share"
        )
    return result


class _DiedError(Exception):
    """The process of a task has died."""


def _run(
    function: Callable[[Item], Result], item: Item, workers: Workers, folder: Path, mark: _Mark | None
) -> tuple[Result | None, str | None]:
    """In a worker: the result, or else the name of a machine that does not have the output folder."""
    os.environ["GANOMALY_PROCESSORS"] = str(workers.threads)
    if not workers.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # read when PyTorch first looks for a GPU
    with suppress(OSError):  # on another machine, where paths are absolute or in a store
        os.chdir(folder)
    if mark is not None and not mark.is_here():
        return None, socket.gethostname()
    return call_with_threads(function, workers.threads, item), None
