"""Results computed ahead by threads, given in order and in bounded memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    ahead: int,
    begin: Callable[[], None] | None = None,
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for each item in order, computed by threads before it is asked for.

    When the generator ends, is closed, or is left by an exception (Ctrl-C too), calls that have not begun are
    dropped, those that run are waited for, and no thread is left.

    Parameters
    ----------
    function : callable
        Called in the threads. Its exceptions are raised here.
    items : iterable
        Iterated in the caller's thread, at most `ahead` items before their results are asked for.
    workers : int
        Number of threads.
    ahead : int
        Results that wait or are being computed, at most.
    begin : callable, optional
        Called in each thread first.
    """
    items = iter(items)
    executor = ThreadPoolExecutor(workers, thread_name_prefix="ahead", initializer=begin)
    try:
        pending: deque[Future[Result]] = deque(
            executor.submit(function, item) for item in islice(items, ahead)
        )
        while pending:
            result = pending.popleft().result()
            pending.extend(executor.submit(function, item) for item in islice(items, 1))
            yield result
    finally:
        executor.shutdown(cancel_futures=True)
