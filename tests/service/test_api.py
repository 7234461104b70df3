"""The HTTP API, from an image to a review."""

import csv
import hashlib
import io
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import func, select

from ganomaly.service.station import Station
from ganomaly.store.schema import PredictionRow
from images import textures, write_images
from service.stations import MODELS, client_of, png, post, settings
from shell import ganomaly

Opened = tuple[TestClient, Station]


def count(station: Station) -> int:
    with station.store.reading() as session:
        return session.scalar(select(func.count()).select_from(PredictionRow)) or 0


def test_an_image_is_predicted_stored_and_shown(any_station: Opened) -> None:
    client, _ = any_station
    content = png(textures(1)[0])
    answer = post(client, content, params={"name": "part 7"})
    assert answer.status_code == 201
    prediction = answer.json()
    promised = "id model version score normalized_score p_value is_anomaly threshold map_url created"
    assert set(promised.split()) <= set(prediction)
    assert (prediction["model"], prediction["name"], prediction["version"]) == ("textures", "part 7", 1)
    assert prediction["is_anomaly"] == (prediction["score"] > prediction["threshold"])
    stored = client.get(f"/v1/predictions/{prediction['id']}").json()
    assert stored == {**prediction, "reviews": []}
    assert client.get(prediction["image_url"]).content == content
    level = np.asarray(Image.open(io.BytesIO(client.get(prediction["map_url"]).content)))
    assert level.shape == (32, 32)
    overlay = client.get(prediction["overlay_url"])
    assert Image.open(io.BytesIO(overlay.content)).size == (32, 32)


@pytest.mark.parametrize(
    "name", ["paper.safetensors", "small.safetensors", "patches.safetensors", "paper.onnx"]
)
def test_the_score_by_http_is_that_of_the_command_line_bit_for_bit(name: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", textures(9))
    ganomaly("score", MODELS / name, folder, "--out", tmp_path / "t.csv")
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    with client_of(settings(MODELS / name, tmp_path)) as (client, _), ThreadPoolExecutor(4) as pool:
        paths = [Path(row["path"]) for row in rows]
        answers = list(pool.map(lambda path: post(client, path.read_bytes(), Path(name).stem).json(), paths))
    for row, answer in zip(rows, answers, strict=True):
        assert answer["score"] == float(row["score"])
        assert answer["p_value"] == float(row["p_value"])
        assert str(answer["is_anomaly"]).lower() == row["is_anomaly"].lower()


def test_a_form_is_taken_as_a_body_is(station: Opened) -> None:
    client, _ = station
    content = png(textures(1)[0])
    form = client.post(
        "/v1/models/textures/predictions", files={"image": ("part 3.png", content, "image/png")}
    )
    assert form.status_code == 201
    assert form.json()["name"] == "part 3.png"
    assert form.json()["score"] == post(client, content).json()["score"]


def test_a_repeated_key_is_the_same_row(any_station: Opened) -> None:
    client, station = any_station
    content, key = png(textures(1)[0]), {"Idempotency-Key": "part 12, 14:03"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(client, content, headers=key), range(16)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == count(station) == 1
    other = post(client, png(textures(1, seed=9)[0]), headers=key)
    assert other.status_code == 409
    assert "another image" in other.json()["error"]


def test_images_that_come_together_are_all_answered(station: Opened) -> None:
    client, opened = station
    images = [png(image) for image in textures(40)]
    alone = [post(client, content).json()["score"] for content in images]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda content: post(client, content), images))
    assert [answer.status_code for answer in together] == [201] * 40
    assert [answer.json()["score"] for answer in together] == alone
    assert count(opened) == 80


BROKEN = {
    "empty": b"",
    "text": b"<script>alert(1)</script>",
    "cut": png(textures(1)[0])[:200],
    "16 bit": png(np.zeros((32, 32), np.uint16)),
    "bomb": png(np.zeros((8, 8), np.uint8)).replace(b"\0\0\0\x08\0\0\0\x08", b"\0\1\0\0\0\1\0\0"),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_image_is_refused_in_one_sentence_and_the_next_one_is_predicted(
    station: Opened, content: bytes
) -> None:
    client, opened = station
    answer = post(client, content)
    assert answer.status_code in (413, 422)
    assert list(answer.json()) == ["error"]
    assert len(answer.json()["error"].splitlines()) == 1
    assert count(opened) == 0
    assert post(client, png(textures(1)[0])).status_code == 201


def test_limits_of_size_hold_before_anything_is_decoded(model_path: Path, tmp_path: Path) -> None:
    with client_of(settings(model_path, tmp_path, max_bytes=50_000, max_pixels=10_000)) as (client, _):
        assert post(client, bytes(200_000)).status_code == 413
        assert "at most 0.116 MB" in post(client, bytes(200_000)).json()["error"]
        # without a length that could be known before
        assert post(client, iter([bytes(40_000)] * 5)).status_code == 413
        wide = post(client, png(np.zeros((101, 100), np.uint8)))
        assert wide.status_code == 413
        assert "megapixels" in wide.json()["error"]


def test_unknown_things_are_404_in_a_sentence(station: Opened) -> None:
    client, _ = station
    for answer in (
        post(client, png(textures(1)[0]), model="other"),
        client.get("/v1/predictions/99"),
        client.get("/v1/predictions/99/image"),
        client.put("/v1/predictions/99/review", json={"label": "normal"}),
        client.get("/v1/models/other/drift"),
        client.get("/nothing"),
        client.get("/static/../../errors.py"),
        client.get("/static/%2e%2e/%2e%2e/errors.py"),
        client.put("/v1/models/textures/version", json={"version": 9}),
    ):
        assert answer.status_code == 404
        assert list(answer.json()) == ["error"]


def test_pages_of_predictions_by_cursor_and_filters(station: Opened) -> None:
    client, _ = station
    for image in textures(25):
        post(client, png(image))
    seen, cursor = [], None
    while True:
        page = client.get(
            "/v1/predictions", params={"limit": 10, **({"cursor": cursor} if cursor else {})}
        ).json()
        seen += [each["id"] for each in page["predictions"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 25
    worst = client.get("/v1/predictions", params={"order": "worst", "limit": 200}).json()["predictions"]
    scores = [each["normalized_score"] for each in worst]
    assert scores == sorted(scores, reverse=True)
    since = client.get("/v1/predictions", params={"since": "2100-01-01T00:00:00Z"}).json()
    assert since["predictions"] == []
    for wrong in ({"cursor": "x"}, {"limit": 0}, {"since": "soon"}, {"order": "best"}, {"verdict": "maybe"}):
        answer = client.get("/v1/predictions", params=wrong)
        assert answer.status_code == 422
        assert list(answer.json()) == ["error"]


def test_a_review_is_written_and_taken_back(any_station: Opened) -> None:
    client, _ = any_station
    number = post(client, png(textures(1)[0])).json()["id"]
    url = f"/v1/predictions/{number}/review"
    assert client.put(url, json={"label": "scratch", "note": "left edge"}).json()["label"] == "scratch"
    assert client.put(url, json={"label": "normal"}).json()["label"] == "normal"
    assert client.get("/v1/predictions", params={"label": "normal"}).json()["predictions"][0]["id"] == number
    undone = client.delete(url).json()
    assert undone["label"] == "scratch"
    assert [(each["label"], each["undone"] is not None) for each in undone["reviews"]] == [
        ("scratch", False),
        ("normal", True),
    ]
    assert client.delete(url).json()["label"] is None
    assert client.delete(url).status_code == 422
    for wrong in (
        {"label": ""},
        {"label": "../x"},
        {},
        {"label": "a" * 65},
        {"label": "a", "note": "n" * 3000},
    ):
        assert client.put(url, json=wrong).status_code == 422


def test_what_is_kept_follows_the_policy(model_path: Path, tmp_path: Path) -> None:
    images = [png(image) for image in [*textures(6), *textures(6, seed=1, blob=True)]]
    for keep in ("all", "anomalous", "sample", "none"):
        folder = tmp_path / keep
        folder.mkdir()
        chosen = settings(model_path, folder, keep=keep, sample_first=2, sample_share=0)
        with client_of(chosen) as (client, _):
            answers = [post(client, content).json() for content in images]
        for position, answer in enumerate(answers):
            kept = {
                "all": True,
                "anomalous": answer["is_anomaly"] or position < 2,
                "sample": position < 2,
                "none": False,
            }[keep]
            assert (answer["image_url"] is not None) == kept
            assert (answer["map_url"] is not None) == kept
            digest = hashlib.sha256(images[position]).hexdigest()
            assert (folder / "files" / "images" / digest[:2] / f"{digest}.png").exists() == kept


def test_a_full_queue_says_when_to_come_back(model_path: Path, tmp_path: Path) -> None:
    with client_of(settings(model_path, tmp_path, queue=2, batch_size=1)) as (client, station):
        content = png(textures(1)[0])
        with ThreadPoolExecutor(12) as pool:
            with station.models["textures"].computing:
                # one waits for the lock, two in the queue
                waiting = [pool.submit(post, client, content) for _ in range(12)]
                while sum(each.done() for each in waiting) < 9:
                    time.sleep(0.02)
            answers = [each.result() for each in waiting]
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201] * 3 + [429] * 9
    late = next(answer for answer in answers if answer.status_code == 429)
    assert int(late.headers["Retry-After"]) >= 1
    assert "wait" in late.json()["error"]


def test_a_station_that_starts_again_goes_on_where_it_was(
    model_path: Path, store_url: str, tmp_path: Path
) -> None:
    chosen = settings(model_path, tmp_path, store=store_url)
    with client_of(chosen) as (client, _):
        first = post(client, png(textures(1)[0])).json()
    with client_of(chosen) as (client, station):
        assert client.get(f"/v1/predictions/{first['id']}").json()["score"] == first["score"]
        assert post(client, png(textures(1)[0])).json()["score"] == first["score"]
        assert [each["number"] for each in client.get("/v1/models").json()["models"][0]["versions"]] == [1]
        assert count(station) == 2


def test_health_and_metrics(station: Opened) -> None:
    client, opened = station
    for image in [*textures(3), *textures(3, seed=1, blob=True)]:
        post(client, png(image))
    assert client.get("/health/live").json() == {"status": "ok", "problems": {}}
    assert client.get("/health/ready").status_code == 200
    opened.problems["webhooks"] = "no answer"
    assert client.get("/health/ready").status_code == 503
    text = client.get("/metrics").text
    counted = [line for line in text.splitlines() if line.startswith("ganomaly_predictions_total")]
    assert sum(float(line.split()[-1]) for line in counted) == 6
    for name in (
        "ganomaly_stage_seconds_bucket", "ganomaly_queue", "ganomaly_p_value_bucket", "ganomaly_database_bytes",
        "ganomaly_drift_log10_martingale", "ganomaly_requests_total", "ganomaly_disk_free_bytes",
        "ganomaly_webhooks_waiting",
    ):  # fmt: skip
        assert name in text


def test_two_models_with_one_name_and_none_are_refused(model_path: Path, tmp_path: Path) -> None:
    result = ganomaly("serve", tmp_path, "--store", tmp_path / "a.db", "--port", "0")
    assert result.returncode == 2
    assert "no model" in result.stderr
    for name in ("a.safetensors", "a.onnx"):
        (tmp_path / name).write_bytes(model_path.read_bytes())
    result = ganomaly("serve", tmp_path, "--store", tmp_path / "a.db", "--port", "0")
    assert result.returncode == 2
    assert "one name" in result.stderr
    assert not (tmp_path / "a.db").exists()


def test_a_taken_port_is_said_before_anything_is_loaded(model_path: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = ganomaly("serve", model_path, "--store", tmp_path / "a.db", "--port", port)
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1, port {port}" in result.stderr
    assert "loading" not in result.stderr
    assert not (tmp_path / "a.db").exists()
