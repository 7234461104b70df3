"""Reviewed images as a dataset."""

from pathlib import Path

import pytest

from ganomaly.errors import UsageError
from ganomaly.store import Store
from ganomaly.store.dataset_export import export_reviewed
from ganomaly.store.reviews import add_review
from ganomaly.store.stored_files import digest_of
from store.conftest import add, row


def stored(store: Store, number: int, content: bytes) -> dict:
    digest = digest_of(content)
    store.files.write(store.files.image(digest, "image/png"), content)
    return row(number, digest=digest, has_image=True)


def test_reviewed_images_are_written_by_their_labels(store: Store, tmp_path: Path) -> None:
    numbers = add(store, *(stored(store, i, b"image %d" % i) for i in range(40)))
    with store.writing() as session:
        for number in numbers[:30]:
            add_review(session, number, "normal", "", "ann")
        add_review(session, numbers[30], "deep scratch", "", "ann")
        add_review(session, numbers[31], "unsure", "", "ann")
    counts = export_reviewed(store, "parts", tmp_path / "out")
    assert counts["train/good"] + counts["test/good"] == 30
    assert counts["test/good"] > 0
    assert counts["test/deep_scratch"] == 1
    files = list((tmp_path / "out").rglob("*.png"))
    assert len(files) == sum(counts.values()) == 31
    assert {path.read_bytes() for path in files} <= {b"image %d" % i for i in range(40)}


def test_a_later_export_adds_and_moves_nothing(store: Store, tmp_path: Path) -> None:
    numbers = add(store, *(stored(store, i, b"image %d" % i) for i in range(20)))
    with store.writing() as session:
        for number in numbers[:10]:
            add_review(session, number, "normal", "", "ann")
    export_reviewed(store, "parts", tmp_path / "out")
    before = set((tmp_path / "out").rglob("*.png"))
    with store.writing() as session:
        for number in numbers[10:]:
            add_review(session, number, "normal", "", "ann")
    export_reviewed(store, "parts", tmp_path / "out")
    after = set((tmp_path / "out").rglob("*.png"))
    assert before < after
    assert len(after) == 20


def test_an_image_whose_review_was_corrected_moves(store: Store, tmp_path: Path) -> None:
    (number,) = add(store, stored(store, 1, b"image"))
    for label, part in (("dent", "test/dent"), ("normal", "good"), ("scratch", "test/scratch")):
        with store.writing() as session:
            add_review(session, number, label, "", "ann")
        export_reviewed(store, "parts", tmp_path / "out")
        (path,) = (tmp_path / "out").rglob("*.png")
        assert part in str(path.parent)


def test_an_image_that_was_sent_twice_is_there_once_with_its_latest_label(
    store: Store, tmp_path: Path
) -> None:
    numbers = add(store, stored(store, 1, b"same"), stored(store, 2, b"same"))
    with store.writing() as session:
        add_review(session, numbers[0], "normal", "", "ann")
        add_review(session, numbers[1], "dent", "", "ann")
    assert export_reviewed(store, "parts", tmp_path / "out") == {"test/dent": 1}


def test_images_that_are_gone_are_counted(store: Store, tmp_path: Path) -> None:
    (number,) = add(store, row(1))
    with store.writing() as session:
        add_review(session, number, "normal", "", "ann")
    assert export_reviewed(store, "parts", tmp_path / "out") == {"missing": 1}


def test_nothing_reviewed_is_a_sentence(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="review some first"):
        export_reviewed(store, "parts", tmp_path / "out")
    with pytest.raises(UsageError, match="no model"):
        export_reviewed(store, "other", tmp_path / "out")
