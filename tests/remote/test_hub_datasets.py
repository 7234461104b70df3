"""Data sets of a hub, `hf://datasets/ORG/NAME`, by the hub's own client and its HTTP API on loopback."""

import csv
import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ganomaly import GANomalyDetector
from ganomaly.data import open_images, open_training_images
from ganomaly.errors import ImageError, StoreError, UsageError
from ganomaly.remote import RemoteFile, list_files, location, stores, transfer
from hub_answers import answer, hub_at
from images import SMALL, textures, write_images
from shell import ganomaly

COMMIT = "b" * 40
DATASET = "hf://datasets/lab/parts"
TOKEN = "hf_right"
PER_PAGE = 25  # files of a listing that come in one answer


class DatasetHub:
    """A hub with one private data set, and what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.tokens: set[str | None] = set()
        self.failures = 0  # of the next requests

    def put(self, folder: Path, name: str = "") -> None:
        """Add the files below a folder."""
        for path in folder.rglob("*.*"):
            self.files[f"{name}/{path.relative_to(folder).as_posix()}".lstrip("/")] = path.read_bytes()


def handler(hub: DatasetHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self):
            self.do_GET()

        def do_POST(self):
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            if not self.may_read():
                return
            found = [described(path) for path in asked.get("paths", []) if path in hub.files]
            answer(self, 200, found)

        def do_GET(self):
            if not self.may_read():
                return
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            if path.startswith("/datasets/lab/parts/resolve/"):
                self.content(path.split("/", 6)[6])
            elif "/tree/" in path:
                self.listing(path.partition("/tree/")[2].partition("/")[2], parse_qs(parts.query))
            else:
                answer(self, 200, {"id": "lab/parts", "sha": COMMIT, "siblings": [], "tags": []})

        def may_read(self) -> bool:
            hub.requests.append(f"{self.command} {self.path}")
            hub.tokens.add(self.headers.get("Authorization"))
            if hub.failures > 0:
                hub.failures -= 1
                answer(self, 500)
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                answer(self, 401, {"error": "Invalid credentials"})
            elif "/datasets/lab/parts" not in self.path:
                answer(self, 404, headers=[("X-Error-Code", "RepoNotFound")])
            else:
                return True
            return False

        def content(self, name):
            if name not in hub.files:
                return answer(self, 404, headers=[("X-Error-Code", "EntryNotFound")])
            content = hub.files[name]
            etag = ("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            asked = self.headers.get("Range")
            if asked is None:
                return answer(self, 200, content, [etag])
            first, last = asked.removeprefix("bytes=").split("-")
            part = content[int(first) : int(last or len(content)) + 1]
            place = ("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
            return answer(self, 206, part, [etag, place])

        def listing(self, folder, query):
            prefix = f"{folder}/" if folder else ""
            below = [name for name in hub.files if name.startswith(prefix)]
            if folder and not below:
                return answer(self, 404, headers=[("X-Error-Code", "EntryNotFound")])
            folders = {str(parent) for name in below for parent in PurePosixPath(name).parents}
            names = sorted(name for name in {*below, *folders} if name.startswith(prefix) and name != ".")
            if query.get("recursive") != ["true"]:
                names = [name for name in names if "/" not in name.removeprefix(prefix)]
            start = int(query.get("cursor", ["0"])[0])
            headers = []
            if start + PER_PAGE < len(names):
                follow = urlencode(
                    {name: value[0] for name, value in query.items()} | {"cursor": start + PER_PAGE}
                )
                address = f"http://{self.headers['Host']}{urlsplit(self.path).path}?{follow}"
                headers = [("Link", f'<{address}>; rel="next"')]
            return answer(self, 200, [described(name) for name in names[start : start + PER_PAGE]], headers)

    def described(name: str) -> dict[str, object]:
        content = hub.files.get(name)
        if content is None:
            return {"type": "directory", "path": name, "oid": "0" * 40}
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    return Handler


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetHub]:
    """A hub on loopback that knows one token."""
    from huggingface_hub import HfFileSystem

    hub = DatasetHub()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)
    with hub_at(handler(hub)) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        for forget in (stores._hub.cache_clear, stores._hf.cache_clear, HfFileSystem.clear_instance_cache):
            forget()
        yield hub
        for forget in (stores._hub.cache_clear, stores._hf.cache_clear, HfFileSystem.clear_instance_cache):
            forget()


@pytest.fixture
def dataset(hub: DatasetHub, labelled_folder: Path) -> DatasetHub:
    """The hub with a data set in MVTec AD layout: 40 images to train on, 24 to test."""
    hub.put(labelled_folder)
    return hub


def contents(requests: list[str]) -> list[str]:
    """The files that were fetched, without their folder."""
    fetched = [request.partition("/resolve/main/")[2] for request in requests if "/resolve/" in request]
    return sorted(fetched)


def test_fit_and_score_fetch_each_file_that_is_named_once(
    dataset: DatasetHub, labelled_folder: Path, tmp_path: Path
) -> None:
    options = ["--preset", "paper", "--epochs", "1", "--false-alarm-rate", "0.2", "--debug"]
    for name, value in SMALL.items():
        options += ["--option", f"{name}={value}"]
    model, table = tmp_path / "model.safetensors", tmp_path / "out.csv"
    fitted = ganomaly("fit", DATASET, "--model", model, *options)
    assert fitted.returncode == 0, fitted.stderr
    assert contents(dataset.requests) == sorted(name for name in dataset.files if name.startswith("train/"))
    dataset.requests.clear()
    scored = ganomaly("score", model, f"{DATASET}/test/blob", "--out", table, "--debug")
    assert scored.returncode == 0, scored.stderr
    assert contents(dataset.requests) == sorted(
        name for name in dataset.files if name.startswith("test/blob/")
    )
    detector = GANomalyDetector.load(model)
    with table.open(newline="") as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(scores, detector.anomaly_score(labelled_folder / "test" / "blob"), rtol=1e-5)
    assert dataset.tokens == {f"Bearer {TOKEN}"}
    told = fitted.stdout + fitted.stderr + scored.stdout + scored.stderr + table.read_text()
    assert TOKEN.encode() not in told.encode() + model.read_bytes()


def test_a_listing_of_several_pages_is_whole_and_has_sizes(dataset: DatasetHub) -> None:
    found = list_files(RemoteFile(f"{DATASET}/train"))
    assert {f"train/{stored.name}": stored.size for stored in found} == {
        name: len(content) for name, content in dataset.files.items() if name.startswith("train/")
    }
    assert not contents(dataset.requests)


def test_parquet_of_a_hub_is_read(hub: DatasetHub, tmp_path: Path) -> None:
    encoded = [
        path.read_bytes() for path in sorted(write_images(tmp_path / "images", textures(40)).iterdir())
    ]
    table = pa.table({"image": [{"bytes": content, "path": None} for content in encoded]})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=10)
    hub.files["data/train.parquet"] = (tmp_path / "train.parquet").read_bytes()
    images = open_images(f"{DATASET}/data")
    assert len(images) == 40
    np.testing.assert_array_equal(images.read(7)[..., 0], textures(40)[7])


def test_a_revision_is_named_after_an_at_sign(dataset: DatasetHub) -> None:
    images = open_images(f"{DATASET}@v1/test/good")
    assert len(images) == 12
    images.read(0)
    assert dataset.requests[-1].endswith("/resolve/v1/test/good/000.png")


def test_what_is_not_there_is_one_sentence(dataset: DatasetHub) -> None:
    for source in (f"{DATASET}/nothing", "hf://datasets/lab/none"):
        with pytest.raises(
            UsageError, match="does not exist, or nothing is in it; check the path, and the token"
        ):
            open_images(source)


def test_an_image_that_is_not_there_costs_its_row(dataset: DatasetHub) -> None:
    images = open_images([f"{DATASET}/test/good/000.png", f"{DATASET}/test/good/none.png"])
    images.read(0)
    with pytest.raises(ImageError, match=r"none\.png does not exist"):
        images.read(1)


def test_a_wrong_token_is_said_and_not_shown(
    dataset: DatasetHub, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    done = ganomaly("score", model_path, f"{DATASET}/test", "--out", tmp_path / "out.csv")
    assert done.returncode == 1
    assert "the store says 401; check credentials" in done.stderr
    assert "hf_wrong" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not contents(dataset.requests)


def test_a_hub_that_fails_is_asked_again_and_then_said(
    dataset: DatasetHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the hub's client waits between its tries, too
    dataset.failures = 2
    assert len(list_files(RemoteFile(f"{DATASET}/test/good"))) == 12
    dataset.failures = 1000
    with pytest.raises(
        StoreError, match=r"cannot list hf://datasets/lab/parts/test/blob: the store says 500"
    ):
        list_files(RemoteFile(f"{DATASET}/test/blob"))


def test_nothing_is_asked_of_a_hub_that_is_not_named(dataset: DatasetHub, normal_folder: Path) -> None:
    open_training_images(normal_folder).read(0)
    location(f"{DATASET}/test/good")
    assert not dataset.requests
