"""`--engine`: which options it has, and where `ganomaly benchmark` and `ganomaly fit-all` run their tasks."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from ganomaly.errors import UsageError
from ganomaly.remote.location import Location

if TYPE_CHECKING:
    from ganomaly.workers import TaskRunner


def check_engine(engine: str, workers: int | None, unsupported: Mapping[str, object]) -> None:
    """Raise `UsageError` for options that the engine does not have.

    Parameters
    ----------
    engine : {'local', 'ray'}
        As chosen.
    workers : int or None
        Number of workers, if it is given.
    unsupported : mapping of str to object
        Options that Ray does not have, and their values.
    """
    if engine == "local":
        if workers is not None:
            raise UsageError("--workers is for --engine ray; leave it out, or add --engine ray")
        return
    given = [option for option, value in unsupported.items() if value is not None]
    if given:
        raise UsageError(
            f"--engine ray writes scores alone; leave out {' and '.join(given)}, or --engine ray"
        )


def task_runner(engine: str, out: Location, *, jobs: int, workers: int | None) -> "TaskRunner":
    """Where tasks run.

    Parameters
    ----------
    engine : {'local', 'ray'}
        This machine, or Ray.
    out : Path or RemoteFile
        Folder to which tasks write.
    jobs : int
        Tasks at a time on this machine.
    workers : int or None
        The same on Ray.

    Raises
    ------
    UsageError
        If an option of the other engine is given, or Ray is not installed.
    """
    check_engine(engine, workers, {})
    if engine == "local":
        from ganomaly.workers import run_tasks

        return partial(run_tasks, jobs=jobs)
    if jobs != 1:
        raise UsageError("--jobs is for --engine local; with --engine ray name the number by --workers")
    from ganomaly.cluster.session import import_ray
    from ganomaly.cluster.tasks import run_on_ray

    import_ray()
    return partial(run_on_ray, n_workers=workers, out=out)
