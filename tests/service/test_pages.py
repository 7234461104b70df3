"""The review pages as a browser without JavaScript sees them."""

import re
from html import unescape

from fastapi.testclient import TestClient

from ganomaly.service.station import Station
from images import textures
from service.stations import png, post

Opened = tuple[TestClient, Station]


def fill(client: TestClient, n: int = 6) -> list[int]:
    images = [*textures(n), *textures(n, seed=1, blob=True)]
    return [
        post(client, png(image), params={"name": f"part {i}"}).json()["id"] for i, image in enumerate(images)
    ]


def token_of(page: str) -> str:
    return re.search(r'name="csrf_token" value="([^"]+)"', page).group(1)


def selected(page: str) -> int:
    return int(re.search(r'action="/predictions/(\d+)/review"', page).group(1))


def send(client: TestClient, path: str, page: str, **fields: str):
    return client.post(path, data={"csrf_token": token_of(page), **fields})


def test_the_worst_comes_first_and_a_review_brings_the_next(station: Opened) -> None:
    client, _ = station
    fill(client)
    worst = client.get("/v1/predictions", params={"order": "worst"}).json()["predictions"]
    page = client.get("/").text
    assert selected(page) == worst[0]["id"]
    after = send(client, f"/predictions/{worst[0]['id']}/review", page, label="normal", back="/")
    assert selected(after.text) == worst[1]["id"]
    assert "undo" in after.text
    undone = send(client, f"/predictions/{worst[0]['id']}/undo", after.text, back="/")
    assert selected(undone.text) == worst[0]["id"]


def test_another_kind_of_defect_gets_a_key_of_its_own(station: Opened) -> None:
    client, _ = station
    (number, *_) = fill(client)
    page = client.get(f"/predictions/{number}").text
    send(client, f"/predictions/{number}/review", page, other="deep scratch", note="left", back="/")
    page = client.get("/").text
    assert re.search(r'value="deep scratch" class="anomalous" data-key="2"', page)
    detail = client.get(f"/predictions/{number}").text
    assert "deep scratch" in detail
    assert "left" in detail


def test_a_note_goes_with_every_label_and_enter_in_it_says_nothing_by_itself(station: Opened) -> None:
    client, _ = station
    (number, *_) = fill(client)
    page = client.get(f"/predictions/{number}").text
    (form,) = re.findall(r'<form class="review".*?</form>', page, re.DOTALL)
    assert re.search(r"<button[^>]*>", form).group() == '<button name="label" value="">'  # what Enter presses
    assert 'name="note"' in form
    assert send(client, f"/predictions/{number}/review", page, label="", note="dusty").status_code == 422
    send(client, f"/predictions/{number}/review", page, label="normal", note="dusty")
    assert "dusty" in client.get(f"/predictions/{number}").text


def test_what_waits_for_a_review_is_of_models_that_are_served(station: Opened) -> None:
    client, opened = station
    fill(client)
    served = dict(opened.models)
    opened.models.clear()
    try:
        assert "Nothing to review here" in client.get("/").text
        assert 'class="review"' in client.get("/?view=all").text
    finally:
        opened.models.update(served)


def test_the_sample_is_reviewed_in_its_order(station: Opened) -> None:
    client, _ = station
    numbers = fill(client)
    seen = []
    page = client.get("/?view=sample").text
    while 'class="review"' in page:
        seen.append(selected(page))
        page = send(
            client, f"/predictions/{seen[-1]}/review", page, label="normal", back="/?view=sample"
        ).text
    assert seen == numbers


def test_every_list_and_filter_is_a_page(station: Opened) -> None:
    client, _ = station
    fill(client)
    for address in (
        "/", "/?view=all", "/?view=disagreements", "/?view=sample", "/?verdict=anomalous", "/?model=textures",
        "/?day=2026-11-26", "/?p=0.5", "/?name=part%203", "/?view=all&name=nobody", "/live", "/live?model=textures",
        "/models/textures", "/models/textures?step=2", "/models/textures?rate=0.03", "/upload", "/sign-in",
    ):  # fmt: skip
        page = client.get(address)
        assert page.status_code == 200, address
        assert "<h1>" in page.text or "<h2>" in page.text
    for address in (
        "/?day=soon", "/?p=many", "/?view=nothing", "/?model=other", "/models/other", "/predictions/99",
        "/?cursor=x", "/models/textures?step=99",
    ):  # fmt: skip
        page = client.get(address)
        assert page.status_code in (404, 422), address
        assert list(page.json()) == ["error"]


def test_the_pages_of_a_list_show_every_prediction(station: Opened) -> None:
    client, _ = station
    numbers = fill(client, 15)
    seen: set[int] = set()
    address = "/?view=all"
    while address:
        page = client.get(address).text
        seen |= {int(each) for each in re.findall(r'href="/predictions/(\d+)"', page)}
        further = re.search(r'<a href="([^"]+)">Further</a>', page)
        address = unescape(further.group(1)) if further else ""
    assert seen == set(numbers)


def test_images_are_drawn_for_browsers(station: Opened) -> None:
    client, _ = station
    (number, *_) = fill(client)
    for what in ("image", "overlay", "reconstruction"):
        answer = client.get(f"/images/{number}/{what}.jpg?side=64")
        assert answer.status_code == 200
        assert answer.content.startswith(b"\xff\xd8")
    assert client.get(f"/images/{number}/other.jpg").status_code == 404


def test_a_threshold_is_tried_on_stored_predictions_before_anything_changes(station: Opened) -> None:
    client, opened = station
    fill(client)
    before = opened.models["textures"].resident.predictor.calibration.threshold
    page = client.get("/models/textures/threshold?step=7").text
    assert "20 %" in page
    assert opened.models["textures"].resident.predictor.calibration.threshold == before
    page = client.get("/models/textures?step=7").text
    send(client, "/models/textures/rate", page, value="0.2")
    assert opened.models["textures"].resident.predictor.calibration.false_alarm_rate == 0.2


def test_recalibration_is_compared_then_taken_and_put_back(station: Opened) -> None:
    client, opened = station
    for number in fill(client):
        assert client.put(f"/v1/predictions/{number}/review", json={"label": "normal"}).status_code == 200
    page = client.get("/models/textures").text
    proposal = send(client, "/models/textures/recalibrate", page, use="add")
    assert "on all reviewed images" in proposal.text
    assert opened.models["textures"].resident.version == 1
    done = send(
        client, "/models/textures/recalibrate", proposal.text, use="add", update="false", confirmed="true"
    )
    assert opened.models["textures"].resident.version == 2
    assert "recalibration" in done.text
    send(client, "/models/textures/version", done.text, number="1")
    assert opened.models["textures"].resident.version == 1
    refused = send(client, "/models/textures/recalibrate", done.text, use="replace", confirmed="true")
    assert refused.status_code in (200, 422)


def test_what_cannot_be_done_is_said_on_a_page(station: Opened) -> None:
    client, _ = station
    page = client.get("/models/textures").text
    refused = send(client, "/models/textures/recalibrate", page, use="auto")
    assert refused.status_code == 422
    assert "review some first" in refused.text
    assert "<h1>" in refused.text


def test_an_image_is_uploaded_on_a_page(station: Opened) -> None:
    client, _ = station
    page = client.get("/upload").text
    files = {"image": ("bolt.png", png(textures(1)[0]))}
    done = client.post("/upload", data={"csrf_token": token_of(page), "model": "textures"}, files=files)
    assert done.status_code == 200
    assert "bolt.png" in done.text
    broken = client.post(
        "/upload", data={"csrf_token": token_of(page), "model": "textures"}, files={"image": ("a.png", b"x")}
    )
    assert broken.status_code == 422
