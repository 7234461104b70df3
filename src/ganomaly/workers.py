"""Many tasks in a few processes, each of which imports what it needs once and runs one task after the other."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Protocol, TypeVar

from ganomaly.data.resources import usable_processors

Item = TypeVar("Item")
Result = TypeVar("Result")

DIED = (
    "its process was ended by the system, which may have had no memory left; run fewer at a time, or make the images "
    "smaller"
)


class TaskRunner(Protocol):
    """Calls a function with each of the items, somewhere: `run_tasks` does, and `cluster.tasks.run_on_ray`.

    Yields position and result of each item as they come; None where the process has died.
    """

    def __call__(
        self, function: Callable[[Item], Result], items: Sequence[Item], /
    ) -> Iterator[tuple[int, Result | None]]:
        """Run."""
        ...


def run_tasks(
    function: Callable[[Item], Result], items: Sequence[Item], *, jobs: int = 1
) -> Iterator[tuple[int, Result | None]]:
    """Call a function with each of the items: one after the other here, or several at a time in other processes.

    Parameters
    ----------
    function : callable
        Of a module, so that another process finds it.
    items : sequence
        What it is called with.
    jobs : int
        Calls at a time; they divide the processors among them.

    Yields
    ------
    (int, result)
        As `run_in_processes`.
    """
    jobs = min(jobs, len(items))  # so that few tasks have all processors
    if jobs <= 1:
        for position, item in enumerate(items):
            yield position, function(item)
        return
    threads = max(1, usable_processors() // jobs)
    yield from run_in_processes(partial(call_with_threads, function, threads), items, jobs=jobs)


def call_with_threads(function: Callable[[Item], Result], threads: int, item: Item) -> Result:
    """Call a function where PyTorch computes with so many threads."""
    import torch

    torch.set_num_threads(threads)
    return function(item)


def run_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], *, jobs: int
) -> Iterator[tuple[int, Result | None]]:
    """Call a function with each of the items, in processes of their own.

    A process that dies, because the system has no memory left, say, takes the tasks of its pool with it. They are run
    again one at a time, so that only the one whose process dies has no result.

    Parameters
    ----------
    function : callable
        Of a module, so that another process finds it.
    items : sequence
        What it is called with; it goes to another process, and so does the result.
    jobs : int
        Processes.

    Yields
    ------
    (int, result)
        Position of the item and the result, as they come; None where the process has died.
    """
    waiting, suspects = deque(range(len(items))), deque[int]()
    while waiting or suspects:
        alone = bool(suspects)
        queue, at_once = (suspects, 1) if alone else (waiting, jobs)
        running: dict[Future[Result], int] = {}
        with worker_pool(at_once) as pool:
            try:
                while queue or running:
                    while queue and len(running) < at_once:
                        running[pool.submit(function, items[queue[0]])] = queue[0]
                        queue.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        yield running.pop(future), result
            except BrokenProcessPool:
                if alone:
                    for position in running.values():
                        yield position, None
                else:
                    suspects.extend(running.values())


@contextmanager
def worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one; tasks that have not begun are dropped when the block ends."""
    # a fresh interpreter for each: threads of the parent do not survive a fork
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """End this process when its parent is killed: it would write beside the run that goes on."""
    parent = parent_process()
    assert parent is not None

    def wait_for_parent() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait_for_parent, daemon=True).start()
