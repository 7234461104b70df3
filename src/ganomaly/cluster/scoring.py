"""Score many images on several processes and machines: Ray Data passes parts to workers, which write them."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganomaly.cluster.parts import PartCounts, Plan, begin, check_folder, finish, make_plan
from ganomaly.cluster.session import ray_message, ray_session
from ganomaly.cluster.worker import PartScorer, Tries
from ganomaly.config import BATCH_SIZE, DEVICE, Device
from ganomaly.data import ImageDataset
from ganomaly.errors import EngineError, GANomalyError, TrainingError, UsageError
from ganomaly.locks import locked_folder
from ganomaly.prediction import load_predictor
from ganomaly.prediction.load import model_copy
from ganomaly.remote import Location, RemoteFile

PROCESSORS_PER_WORKER = 0.5
"""What Ray reserves for a worker that computes on one processor. All of it would leave none for Ray's own tasks,
which then wait for ever."""

WINDOW = 4_000_000
"""Images that are described to Ray at once, in about 1 GB; the workers start anew for the next ones."""

TRIES = 20
"""Of a part whose workers die: a machine may be lost, and another one after it. As many to load the model."""

LOST_PARTS = 10
"""Parts whose workers die at each try, at which a run ends: it is not a single image's fault."""


@dataclass(frozen=True)
class Workers:
    """How many workers score, and what each gets.

    Attributes
    ----------
    number : int
        Of workers, each a process.
    processors : float
        That Ray reserves for each.
    gpus : int
        For each, 0 or 1.
    threads : int
        That decode, and that compute on processors; a GPU needs its share of the machine's to be busy.
    """

    number: int
    processors: float
    gpus: int
    threads: int


def score_in_parts(
    model: Location,
    dataset: ImageDataset,
    out: Location,
    *,
    n_workers: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: Device = DEVICE,
    on_progress: Callable[[int], None] = lambda images: None,
) -> tuple[PartCounts, dict[int, PartCounts]]:
    """Write the scores of all images to parquet files of a folder, with a manifest.

    Each image is in exactly one row, whatever is killed meanwhile; a run that is repeated goes on with the parts that
    are missing. The scores are those of `ganomaly score` bit for bit.

    Parameters
    ----------
    model : Path or RemoteFile
        A model or an exported graph.
    dataset : ImageDataset
        The images. On several machines their paths must lead to them on each.
    out : Path or RemoteFile
        The folder. On several machines one that all of them have, or one in a store.
    n_workers : int, optional
        Processes that score; one for each GPU, or else for each processor, if left out.
    batch_size : int
        Images per batch; changes memory and speed, not scores.
    device : {'auto', 'cpu', 'cuda'}
        Where to compute.
    on_progress : callable
        Called with the number of images that are done.

    Returns
    -------
    total : PartCounts
        Of all images.
    counts : dict of int to PartCounts
        Of each part.

    Raises
    ------
    UsageError
        If Ray is missing, the folder holds something else, or there is no such model.
    EngineError
        If Ray fails, or the workers of a part die at each of `TRIES` tries; the other parts are scored first. Or if
        `TRIES` times as many workers as there are die while they load the model, and none begins a part meanwhile.
    TrainingError
        If no score is a finite number.
    GANomalyError
        What ended a part: a full disk, a store that does not answer. The parts that are there stay.
    """
    check_folder(out)
    files = _model_files(model)
    digest = hashlib.sha256(b"".join(files.values())).hexdigest()
    with ray_session() as ray, locked_folder(out, "ganomaly score"):
        workers = choose_workers(ray.cluster_resources(), n_workers, device)
        plan, counts = begin(out, make_plan(dataset, digest, workers.number))
        done = sum(part.rows for part in counts.values())
        on_progress(done)
        missing = [part for part in range(plan.n_parts) if part not in counts]
        options = {
            "batch_size": batch_size,
            # the GPUs of a machine are visible to its workers that have none
            "device": device if workers.gpus else "cpu",
            "plan": plan,
            "most_tries": TRIES,
            "threads": workers.threads,
            "folder": str(Path.cwd()),
        }
        arguments = ([ray.put(files)], out, _tries(ray))
        lost: list[int] = []
        window = parts_at_once(plan.images_per_part, workers.number)
        for start in range(0, len(missing), window):
            for part, found in _scored(
                ray, plan, dataset, missing[start : start + window], workers, arguments, options
            ):
                if found is None:
                    lost.append(part)
                    if len(lost) == LOST_PARTS:
                        raise _lost_error(plan, dataset, lost)
                    continue
                counts[part] = found
                done += found.rows
                on_progress(done)
        if lost:
            raise _lost_error(plan, dataset, lost)
        total = finish(out, plan, counts)
    if total.not_finite and total.unreadable == total.rows:
        raise TrainingError(
            "the model gives scores that are not a number: its weights are broken; train it again"
        )
    return total, counts


def parts_at_once(images_per_part: int, n_workers: int) -> int:
    """Parts that are described to Ray at once: those of `WINDOW` images, but two for each worker at least."""
    return max(WINDOW // images_per_part, 2 * n_workers)


def choose_workers(resources: dict[str, float], number: int | None, device: Device) -> Workers:
    """One worker for each GPU or processor of a cluster, so that something is left for Ray's own tasks.

    >>> choose_workers({"CPU": 1.0}, None, "auto")
    Workers(number=1, processors=0.5, gpus=0, threads=1)
    >>> choose_workers({"CPU": 2.0}, 8, "auto")
    Workers(number=8, processors=0.125, gpus=0, threads=1)
    >>> choose_workers({"CPU": 64.0, "GPU": 4.0}, None, "auto")
    Workers(number=4, processors=0.5, gpus=1, threads=16)

    Raises
    ------
    UsageError
        If there are fewer GPUs than asked for.
    """
    processors, gpus = max(int(resources.get("CPU", 1)), 1), int(resources.get("GPU", 0))
    if device == "cuda" and gpus < (number or 1):
        raise UsageError(f"--device cuda with {number or 1} workers needs as many GPUs, and Ray has {gpus}")
    on_gpus = device != "cpu" and gpus >= (number or 1)
    number = number or (gpus if on_gpus else processors)
    reserved = min(PROCESSORS_PER_WORKER, processors * PROCESSORS_PER_WORKER / number)
    return Workers(number, reserved, int(on_gpus), max(processors // number, 1) if on_gpus else 1)


def _tries(ray: Any) -> Any:
    """The actor that counts tries, on this machine: a run does not outlive it."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    # a new one counts from the start
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    return ray.remote(Tries).options(**options).remote()


def _scored(
    ray: Any,
    plan: Plan,
    dataset: ImageDataset,
    parts: list[int],
    workers: Workers,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> Iterator[tuple[int, PartCounts | None]]:
    """Score parts; the counts of each as it is done, None if its workers died at each try."""
    from ray import cloudpickle

    descriptions = []
    for part in parts:
        start, stop = plan.bounds(part)
        # from this process to its own workers, as Ray passes all it passes
        images = cloudpickle.dumps(dataset.part(start, stop))  # type: ignore[no-untyped-call]  # Ray is not typed
        descriptions.append({"part": part, "start": start, "images": images})
    n_workers = min(workers.number, len(parts))
    done = ray.data.from_items(descriptions, override_num_blocks=len(parts)).map_batches(
        PartScorer,
        fn_constructor_args=arguments,
        fn_constructor_kwargs=options | {"most_starts": TRIES * n_workers},
        compute=ray.data.ActorPoolStrategy(size=n_workers),
        batch_size=1,
        num_cpus=workers.processors,
        num_gpus=workers.gpus or None,
    )
    try:
        for row in done.iter_rows():
            if row["failure"] is not None:
                raise _error(row["failure"], int(row["status"]))
            counts = PartCounts(*(int(row[name]) for name in PartCounts.__dataclass_fields__))
            yield int(row["part"]), None if row["is_lost"] else counts
    except ray.exceptions.RayError as error:
        cause = ray_message(error)
        _, _, sentence = cause.partition(f"{EngineError.__name__}: ")  # of a worker, which says it all
        raise EngineError(
            f"{sentence or f'Ray cannot score a part: {cause}'}; the same command goes on where this one ended"
        ) from error


def _error(sentence: str, status: int) -> GANomalyError:
    error = GANomalyError(f"{sentence}; the same command goes on where this one ended")
    error.exit_status = status
    return error


def _lost_error(plan: Plan, dataset: ImageDataset, lost: list[int]) -> EngineError:
    start, stop = plan.bounds(min(lost))
    first, last = dataset.records[start].path, dataset.records[stop - 1].path
    more = (
        f", and those of {len(lost) - 1} more {'part' if len(lost) == 2 else 'parts'}"
        if len(lost) > 1
        else ""
    )
    return EngineError(
        f"{TRIES} workers died one after the other at images {start} to {stop - 1} ({first} to {last}){more}, "
        "as where an image takes too much memory; the other parts are kept: replace the image, and the same "
        "command goes on"
    )


def _model_files(model: Location) -> dict[str, bytes]:
    """The files of a model by name, its own first; what cannot be loaded is refused here, before Ray starts."""
    if isinstance(model, RemoteFile):
        with model_copy(model) as copy:
            return _model_files(copy)
    load_predictor(model)
    files = {model.name: model.read_bytes()}
    weights = model.with_suffix(".bin")
    if model.suffix.lower() == ".xml" and weights.is_file():
        files[weights.name] = weights.read_bytes()
    return files
