"""Models go to a hub and come back, by its HTTP API on loopback, or by a folder."""

import base64
import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest

from ganomaly import GANomalyDetector, ModelFileError, UsageError
from ganomaly.hub import model_card, push_model
from hub_answers import answer, hub_at
from shell import ganomaly

COMMIT = "a" * 40


class Hub:
    """What a hub remembers: files by repository, and what it was asked."""

    def __init__(self):
        self.files: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.private: dict[str, bool] = {}
        self.token: str | None = None


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self):
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            hub.requests.append(f"POST {self.path}")
            hub.token = self.headers.get("Authorization")
            if hub.token == "Bearer hf_wrong":
                return answer(self, 401, {"error": "Invalid username or password."})
            if self.path == "/api/repos/create":
                asked = json.loads(content)
                name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
                is_private = asked.get("private") or asked.get("visibility") == "private"
                hub.files.setdefault(name, {})
                hub.private[name] = bool(is_private)
                return answer(self, 200, {"url": f"http://{self.headers['Host']}/{name}"})
            repository = "/".join(self.path.split("/")[3:5])
            if "/preupload/" in self.path:
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                    for file in json.loads(content)["files"]
                ]
                return answer(self, 200, {"files": files})
            if "/commit/" in self.path:
                lines = [json.loads(line) for line in content.splitlines()]
                for line in lines:
                    if line["key"] == "file":
                        value = line["value"]
                        hub.files[repository][value["path"]] = base64.b64decode(value["content"])
                url = f"http://{self.headers['Host']}/{repository}/commit/{COMMIT}"
                return answer(
                    self,
                    200,
                    {
                        "success": True,
                        "commitOid": COMMIT,
                        "commitUrl": url,
                        "pullRequestUrl": None,
                    },
                )
            return answer(self, 200, {"errors": [], "warnings": []})  # /api/validate-yaml

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            hub.requests.append(f"{self.command} {self.path}")
            organisation, name, _, revision, file = self.path.lstrip("/").split("/", 4)
            files = hub.files.get(f"{organisation}/{name}")
            if files is None:
                return answer(self, 404, headers=[("X-Error-Code", "RepoNotFound")])
            if revision not in ("main", "v1", COMMIT):
                return answer(self, 404, headers=[("X-Error-Code", "RevisionNotFound")])
            content = files[file]
            etag = hashlib.sha256(content).hexdigest()
            return answer(self, 200, content, [("ETag", f'"{etag}"'), ("X-Repo-Commit", COMMIT)])

    return Handler


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    """A hub on loopback, with a cache of its own."""
    from huggingface_hub import constants

    hub = Hub()
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub_at(handler(hub)) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield hub


def test_a_model_comes_back_from_the_hub_as_it_was_pushed(
    hub, model_path, tmp_path, anomalous_images, detector
):
    done = ganomaly("push", model_path, "lab/textures", "--private", "--license", "apache-2.0")
    assert done.returncode == 0, done.stderr
    assert f"/lab/textures/commit/{COMMIT}" in done.stderr
    assert hub.private == {"lab/textures": True}
    assert set(hub.files["lab/textures"]) == {"model.safetensors", "config.json", "README.md"}
    assert hub.files["lab/textures"]["model.safetensors"] == model_path.read_bytes()

    done = ganomaly("pull", "lab/textures", "--model", tmp_path / "back.safetensors", "--revision", "v1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back.safetensors").read_bytes() == model_path.read_bytes()

    loaded = GANomalyDetector.from_pretrained("lab/textures", revision=COMMIT)
    np.testing.assert_array_equal(loaded.predict(anomalous_images), detector.predict(anomalous_images))
    fetched = {request.split("/")[-1] for request in hub.requests if request.startswith(("GET", "HEAD"))}
    assert fetched == {"model.safetensors"}  # no card, no code, no list of files


def test_what_is_in_the_cache_is_not_fetched_again(hub, model_path):
    push_model(model_path, "lab/textures")
    for _ in range(2):
        GANomalyDetector.from_pretrained("lab/textures", revision=COMMIT)
    assert len([request for request in hub.requests if request.startswith("GET")]) == 1


@pytest.mark.parametrize("revision", [None, "no-such-tag"])
def test_what_the_hub_does_not_have_is_said_in_one_sentence(hub, model_path, tmp_path, revision):
    if revision is not None:
        push_model(model_path, "lab/textures")
    options = () if revision is None else ("--revision", revision)
    done = ganomaly("pull", "lab/textures", "--model", tmp_path / "back.safetensors", *options)
    assert done.returncode == 2
    assert "lab/textures" in done.stderr
    assert "cannot be had from the hub" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "back.safetensors").exists()


def test_a_wrong_token_fails_the_push(hub, model_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    done = ganomaly("push", model_path, "lab/textures")
    assert done.returncode == 1
    assert "the hub does not take the model" in done.stderr
    assert "hf_wrong" not in done.stderr
    assert not hub.files


def test_a_file_that_was_changed_on_the_hub_is_refused(hub, model_path, tmp_path):
    push_model(model_path, "lab/textures")
    content = bytearray(model_path.read_bytes())
    content[-1] ^= 1
    hub.files["lab/textures"]["model.safetensors"] = bytes(content)
    done = ganomaly("pull", "lab/textures", "--model", tmp_path / "back.safetensors")
    assert done.returncode == 1
    assert not (tmp_path / "back.safetensors").exists()
    with pytest.raises(ModelFileError):
        GANomalyDetector.from_pretrained("lab/textures")


def test_a_folder_is_a_repository_too_and_needs_no_hub(
    model_path, tmp_path, monkeypatch, detector, normal_images
):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    folder = tmp_path / "published"
    assert ganomaly("push", model_path, folder).returncode == 0
    loaded = GANomalyDetector.from_pretrained(folder)
    np.testing.assert_array_equal(loaded.anomaly_score(normal_images), detector.anomaly_score(normal_images))
    assert json.loads((folder / "config.json").read_text())["method"] == "ganomaly"
    with pytest.raises(UsageError, match="has no revisions"):
        GANomalyDetector.from_pretrained(folder, revision="v1")
    with pytest.raises(UsageError, match="is a file; load it as it is"):
        GANomalyDetector.from_pretrained(folder / "model.safetensors")
    with pytest.raises(UsageError, match=r"no model\.safetensors in the folder"):
        GANomalyDetector.from_pretrained(tmp_path)


def test_a_push_replaces_no_file_that_is_not_a_model(model_path, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"the user's own")
    with pytest.raises(UsageError):
        push_model(model_path, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"the user's own"


def test_the_card_says_what_the_model_is_for_and_how_it_was_measured(detector):
    figures = {"image_auroc": 0.98765, "aupro": None, "n_normal": 12}
    card = model_card(detector.model_, "lab/textures", figures, "apache-2.0")
    _, head, text = card.split("---\n", 2)
    fields = {
        key: json.loads(value) for key, _, value in (line.partition(": ") for line in head.splitlines())
    }
    assert fields["library_name"] == "ganomaly"
    assert fields["license"] == "apache-2.0"
    assert 'from_pretrained("lab/textures")' in text
    assert "about 10 % of normal images are called anomalous" in text
    assert "| AUROC of images | 0.9877 |" in text
    assert "AUPRO" not in text
    assert "| seed | 3 |" in text
    assert "None were given" in model_card(detector.model_, "lab/textures")


def test_a_card_says_nothing_of_the_machine_and_a_name_cannot_be_markup(detector):
    card = model_card(detector.model_, "lab/<b>x")
    provenance = detector.model_.provenance
    assert provenance["machine"] not in card
    assert provenance["data_fingerprint"] not in card
    assert "# \\<b\\>x" in card


def test_a_name_that_may_be_a_new_folder_is_asked_about_and_sent_nowhere(
    hub, model_path, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "published").mkdir()
    done = ganomaly("push", model_path, "published/part")
    assert done.returncode == 2
    assert "write ./published/part for the folder" in done.stderr
    assert not hub.requests
    assert ganomaly("push", model_path, "published/parts/nut").returncode == 0  # no name of a repository
    assert ganomaly("push", model_path, "./published/part").returncode == 0
    assert ganomaly("push", model_path, "published/part").returncode == 0  # there now
    assert not hub.requests
