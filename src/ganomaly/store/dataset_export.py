"""Reviewed images as a dataset in MVTec AD layout, ready for `fit`, `update` and `evaluate`."""

import hashlib
import re
import shutil
from collections import Counter
from pathlib import Path

from sqlalchemy import select

from ganomaly.errors import UsageError
from ganomaly.files import make_folder, written_whole
from ganomaly.store.database import Store
from ganomaly.store.reviews import is_decided
from ganomaly.store.schema import NORMAL, PredictionRow
from ganomaly.store.versions import find_model

_OURS = re.compile(r"\d{9}_[0-9a-f]{8}")
TEST_SHARE = 4  # one normal image in so many is for testing


def export_reviewed(store: Store, model: str, folder: Path) -> Counter[str]:
    """Copy reviewed images to `train/good`, `test/good` and `test/<kind>` in a folder.

    Of the normal images a quarter is for testing, chosen by their content: the same image is always in the same part,
    so that a later export adds images, and moves those alone whose review was corrected. Images that a review was
    unsure of are left out, and an image that was sent several times is there once, with its latest label.

    Parameters
    ----------
    store : Store
        Where the reviews are.
    model : str
        Name of the model.
    folder : Path
        A new one, or that of an earlier export.

    Returns
    -------
    Counter
        How many images each part has, by its path in the folder; "missing" counts those whose image is not stored.

    Raises
    ------
    UsageError
        If there is no such model, or no image of it has a review.
    OutputError
        If a file cannot be written.
    """
    counts: Counter[str] = Counter()
    with store.reading() as session:
        query = select(PredictionRow).where(
            PredictionRow.model_id == find_model(session, model).id,
            is_decided(),
        )
        latest = {row.digest: row for row in session.scalars(query.order_by(PredictionRow.id))}
    if not latest:
        raise UsageError(f"no image of {model} has a review; review some first")
    ours: dict[str, list[Path]] = {}
    for path in folder.glob("t*/*/*"):
        if _OURS.fullmatch(path.stem):
            ours.setdefault(path.stem[-8:], []).append(path)
    for digest, row in latest.items():
        assert row.label is not None
        path = store.files.image(digest, row.media_type)
        if not row.has_image or not path.exists():
            counts["missing"] += 1
            continue
        part = _part(row.label, digest)
        make_folder(folder / part)
        target = folder / part / f"{row.id:09}_{digest[:8]}{path.suffix}"
        if not target.exists():
            with written_whole(target) as copy:
                shutil.copyfile(path, copy)
        for older in ours.get(digest[:8], []):
            if older != target:
                older.unlink(missing_ok=True)  # of a review that was corrected since
        counts[part] += 1
    return counts


def _part(label: str, digest: str) -> str:
    if label != NORMAL:
        return f"test/{label.replace(' ', '_')}"
    is_test = int(hashlib.sha256(digest.encode()).hexdigest(), 16) % TEST_SHARE == 0
    return "test/good" if is_test else "train/good"
