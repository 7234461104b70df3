"""`ganomaly store`."""

from pathlib import Path

from ganomaly.commands.console import Console
from ganomaly.store import migrate_store, open_store
from ganomaly.store.dataset_export import export_reviewed
from ganomaly.store.statistics import store_statistics


def migrate(console: Console, url: str, files: Path | None, revision: str) -> None:
    """Bring the tables to a form."""
    store = open_store(url, files, migrate=False, new=False)
    migrate_store(store, revision)
    store.close()
    console.say(
        "the tables are in the newest form" if revision == "head" else f"the tables are at {revision}"
    )


def stats(console: Console, url: str, files: Path | None) -> None:
    """Count what a store holds."""
    store = open_store(url, files, new=False)
    found = store_statistics(store)
    store.close()
    for model in found.models:
        console.table({**vars(model)})
    console.table({"database": f"{found.database_bytes:,} bytes", "images": f"{found.image_bytes:,} bytes"})


def export(console: Console, url: str, files: Path | None, model: str, out: Path) -> None:
    """Write reviewed images as a dataset."""
    store = open_store(url, files, new=False)
    counts = export_reviewed(store, model, out)
    store.close()
    missing = counts.pop("missing", 0)
    for part, n in sorted(counts.items()):
        console.say(f"{out / part}: {n} images")
    if missing:
        console.warn(f"{missing} reviewed images are not stored any more")
