"""`--engine` of the verbs that run many tasks: `ganomaly benchmark` and `ganomaly fit-all`."""

from functools import partial
from pathlib import Path

from ganomaly.commands.score_in_parts import check_engine
from ganomaly.errors import UsageError
from ganomaly.workers import TaskRunner, run_tasks


def task_runner(engine: str, out: Path, *, jobs: int, workers: int | None) -> TaskRunner:
    """Where tasks run.

    Parameters
    ----------
    engine : {'local', 'ray'}
        This machine, or Ray.
    out : Path
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
        return partial(run_tasks, jobs=jobs)
    if jobs != 1:
        raise UsageError("--jobs is for --engine local; with --engine ray name the number by --workers")
    from ganomaly.cluster.session import import_ray
    from ganomaly.cluster.tasks import run_on_ray

    import_ray()
    return partial(run_on_ray, n_workers=workers, out=out)
