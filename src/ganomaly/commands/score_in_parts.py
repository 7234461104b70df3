"""`ganomaly score --engine ray`."""

from collections.abc import Sequence

from ganomaly.cluster.parts import failures
from ganomaly.cluster.scoring import score_in_parts as run
from ganomaly.commands.console import Console
from ganomaly.commands.process import InterruptionError
from ganomaly.commands.reporting import list_first_failures
from ganomaly.data import open_images
from ganomaly.remote import Location


def score_in_parts(
    console: Console,
    model: Location,
    images: Sequence[Location],
    out: Location,
    *,
    n_workers: int | None,
    batch_size: int,
) -> bool:
    """Score images on several processes; return whether all could be read."""
    dataset = open_images(list(images))
    try:
        with console.counting(len(dataset), "scoring") as count:
            total, counts = run(
                model, dataset, out, n_workers=n_workers, batch_size=batch_size, on_progress=count
            )
    except KeyboardInterrupt:
        raise InterruptionError(
            f"interrupted; the same command goes on with what is missing in {out}"
        ) from None
    n_read = total.rows - total.unreadable
    console.say(
        f"{total.rows} images: {total.anomalous} anomalous, {n_read - total.anomalous} normal, {total.unreadable} "
        f"unreadable; wrote {len(counts)} parts to {out}"
    )
    list_first_failures(console, total.unreadable, failures(out, counts))
    return total.unreadable == 0
