"""Pipes, devices and sockets that are named as images cost their own row, and nothing waits for them."""

import csv
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganomaly.data import open_images
from ganomaly.data.readers.decoding import decode_image
from ganomaly.errors import ImageError
from shell import Done, ganomaly_process

SECONDS = 120  # a process that hangs is stopped after this

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture
def socket_path(tmp_path: Path) -> Iterator[Path]:
    with socket.socket(socket.AF_UNIX) as server:
        path = Path(os.path.relpath(tmp_path / "s.png"))  # the path of a socket may have 107 bytes
        server.bind(str(path))
        yield path


def run(*arguments: object) -> Done:
    return ganomaly_process(*arguments, timeout=SECONDS)


def test_a_pipe_a_device_and_a_socket_are_no_images(tmp_path: Path, socket_path: Path) -> None:
    os.mkfifo(tmp_path / "p.png")
    (tmp_path / "link.png").symlink_to("/dev/zero")
    for path, kind in (
        (tmp_path / "p.png", "pipe"),
        (tmp_path / "link.png", "device"),
        (socket_path, "socket"),
    ):
        with pytest.raises(ImageError, match=f"^{path.name} is a {kind}"):
            decode_image(path)


def test_score_gives_a_pipe_a_row_with_an_error(tmp_path, normal_folder, model_path):
    os.mkfifo(normal_folder / "p.png")
    done = run("score", model_path, normal_folder, "--out", tmp_path / "t.csv", "--maps", tmp_path / "maps")
    assert done.returncode == 3, done.stderr
    with (tmp_path / "t.csv").open() as file:
        errors = {Path(row["path"]).name: row["error"] for row in csv.DictReader(file) if row["error"]}
    assert list(errors) == ["p.png"]
    assert "is a pipe" in errors["p.png"]


def test_fit_leaves_a_pipe_out_and_lists_it(tmp_path, normal_folder):
    os.mkfifo(normal_folder / "p.png")
    model = tmp_path / "m.safetensors"
    done = run("fit", normal_folder, "--model", model, "--preset", "paper", "--image-size", 32, "--epochs", 1)
    assert done.returncode == 3, done.stderr
    assert "p.png is a pipe" in done.stderr
    assert model.exists()


def test_evaluate_lists_a_pipe_among_the_images_and_among_the_masks(tmp_path, labelled_folder, model_path):
    os.mkfifo(labelled_folder / "test" / "blob" / "p.png")
    mask = labelled_folder / "ground_truth" / "blob" / "000_mask.png"
    mask.unlink()
    os.mkfifo(mask)
    done = run("evaluate", model_path, labelled_folder, "--report", tmp_path / "r.html")
    assert done.returncode == 3, done.stderr
    assert "p.png is a pipe" in done.stderr
    assert "000_mask.png is a pipe" in done.stderr


@pytest.mark.parametrize("folder", [False, True])
def test_a_pipe_named_parquet_is_refused_in_a_sentence(tmp_path, model_path, folder):
    path = tmp_path / "data" / "a.parquet"
    path.parent.mkdir()
    os.mkfifo(path)
    done = run("score", model_path, path.parent if folder else path, "--out", tmp_path / "t.csv")
    assert done.returncode == 1, done.stderr
    assert "a.parquet is a pipe" in done.stderr
    assert not (tmp_path / "t.csv").exists()


def test_a_folder_named_as_an_image_in_a_list_of_paths_is_opened_as_a_folder(normal_folder):
    folder = normal_folder.rename(normal_folder.with_name("a.png"))
    assert len(open_images([folder])) == 40
