"""Learning from reviews: a new version, compared first, put back with one request; and the guarantee that is kept."""

import numpy as np
from fastapi.testclient import TestClient
from scipy.stats import betabinom

from ganomaly import GANomalyDetector
from ganomaly.service.station import Station
from ganomaly.store.events import latest_events
from images import textures
from service.stations import MODELS, client_of, png, post, settings

Opened = tuple[TestClient, Station]


def review(client: TestClient, numbers: list[int], label: str = "normal") -> None:
    for number in numbers:
        assert client.put(f"/v1/predictions/{number}/review", json={"label": label}).status_code == 200


def send(client: TestClient, images) -> list[int]:
    return [post(client, png(image)).json()["id"] for image in images]


def recalibrate(client: TestClient, **options):
    return client.post("/v1/models/textures/recalibrations", json=options)


def test_reviewed_images_of_the_sample_make_a_version_that_can_be_put_back(any_station: Opened) -> None:
    client, _ = any_station
    before = client.get("/v1/models").json()["models"][0]
    numbers = send(client, textures(30, seed=8))
    review(client, numbers[:20])
    proposed = recalibrate(client, dry_run=True)
    assert proposed.status_code == 200
    assert proposed.json()["version"] is None
    assert client.get("/v1/models").json()["models"][0] == before
    made = recalibrate(client)
    assert made.status_code == 201
    version, proposal = made.json()["version"], made.json()["proposal"]
    assert (version["number"], version["reason"], version["based_on"]) == (2, "recalibration", 1)
    assert version["calibration_images"] == before["versions"][0]["calibration_images"] + 20
    assert proposal["before"]["normal"] == proposal["after"]["normal"] == 20
    after = client.get("/v1/models").json()["models"][0]
    assert after["active_version"] == 2
    assert after["threshold"] == version["threshold"] != before["threshold"]
    answer = post(client, png(textures(1)[0])).json()
    assert (answer["version"], answer["threshold"]) == (2, version["threshold"])
    back = client.put("/v1/models/textures/version", json={"version": 1}).json()
    assert (back["active_version"], back["threshold"]) == (1, before["threshold"])
    assert post(client, png(textures(1)[0])).json()["threshold"] == before["threshold"]
    assert [each["number"] for each in back["versions"]] == [2, 1]


def test_the_verdict_of_a_borderline_image_changes_and_its_score_does_not(station: Opened) -> None:
    client, _ = station
    odd = textures(60, seed=3)[:, ::-1] // 2  # darker: all of them score higher
    numbers = send(client, odd)
    scores = [client.get(f"/v1/predictions/{number}").json()["score"] for number in numbers]
    review(client, numbers)
    borderline = png(odd[int(np.argsort(scores)[30])])
    first = post(client, borderline).json()
    assert first["is_anomaly"]
    assert recalibrate(client, use="replace").status_code == 201
    second = post(client, borderline).json()
    assert not second["is_anomaly"]
    assert second["score"] == first["score"]


def test_images_calibrate_once_and_in_the_order_of_the_sample(station: Opened) -> None:
    client, _ = station
    numbers = send(client, textures(12, seed=8))
    review(client, numbers[3:])
    refused = recalibrate(client)
    assert refused.status_code == 422
    assert f"prediction {numbers[0]}" in refused.json()["error"]
    review(client, numbers[:3])
    assert recalibrate(client).json()["proposal"]["added"] == 12
    again = recalibrate(client)
    assert again.status_code == 422
    assert "review some first" in again.json()["error"]


def test_images_outside_the_sample_never_calibrate(model_path, tmp_path) -> None:
    with client_of(settings(model_path, tmp_path, sample_first=5, sample_share=0)) as (client, _):
        numbers = send(client, textures(12, seed=8))
        review(client, numbers)
        assert recalibrate(client).json()["proposal"]["added"] == 5


def test_another_rate_is_another_threshold_from_the_same_images(station: Opened) -> None:
    client, _ = station
    numbers = send(client, textures(12, seed=8))
    review(client, numbers)
    strict = recalibrate(client, false_alarm_rate=0.3).json()["version"]
    assert strict["false_alarm_rate"] == 0.3
    for wrong in (0, 1, -1, 2, "many"):
        assert recalibrate(client, false_alarm_rate=wrong).status_code == 422


def test_the_model_learns_too_where_it_is_asked_to(station: Opened) -> None:
    client, opened = station
    numbers = send(client, textures(15, seed=8))
    review(client, numbers)
    made = recalibrate(client, update=True)
    assert made.status_code == 201, made.json()
    version = made.json()["version"]
    assert version["reason"] == "update"
    assert (version["details"]["added"], version["details"]["in_banks"]) == (15, 0)
    assert opened.models["textures"].resident.version == 2
    assert post(client, png(textures(1)[0])).status_code == 201
    client.put("/v1/models/textures/version", json={"version": 1})
    assert opened.models["textures"].resident.version == 1


def test_what_the_model_learns_from_replaces_what_calibrated_before_where_it_is_asked_to(
    station: Opened,
) -> None:
    client, _ = station
    review(client, send(client, textures(15, seed=8)))
    made = recalibrate(client, update=True, use="replace").json()
    assert made["version"]["calibration_images"] == 15
    assert made["proposal"]["replaced"]


def test_a_graph_is_recalibrated_but_not_updated(tmp_path) -> None:
    with client_of(settings(MODELS / "paper.onnx", tmp_path)) as (client, _):
        for image in textures(10, seed=8):
            number = post(client, png(image), "paper").json()["id"]
            client.put(f"/v1/predictions/{number}/review", json={"label": "normal"})
        url = "/v1/models/paper/recalibrations"
        refused = client.post(url, json={"update": True})
        assert refused.status_code == 422
        assert "exported graph" in refused.json()["error"]
        assert client.post(url, json={}).status_code == 201


def test_who_did_what_is_recorded(station: Opened) -> None:
    client, opened = station
    numbers = send(client, textures(5, seed=8))
    review(client, numbers)
    recalibrate(client)
    client.put("/v1/models/textures/version", json={"version": 1})
    with opened.store.reading() as session:
        events = [(each.actor, each.action) for each in latest_events(session)][::-1]
    assert events[0] == ("station", "activate version")
    assert events[1:6] == [("local", "review")] * 5
    assert events[6:] == [("local", "activate version")] * 2


def test_versions_survive_a_restart_and_another_file_is_a_new_version(model_path, tmp_path, detector) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "textures.safetensors").write_bytes(model_path.read_bytes())
    chosen = settings(models, tmp_path)
    with client_of(chosen) as (client, _):
        review(client, send(client, textures(8, seed=8)))
        threshold = recalibrate(client).json()["version"]["threshold"]
    with client_of(chosen) as (client, _):
        assert client.get("/v1/models").json()["models"][0]["threshold"] == threshold
    other = MODELS / "paper.safetensors"
    (models / "textures.safetensors").write_bytes(other.read_bytes())
    with client_of(chosen) as (client, _):
        model = client.get("/v1/models").json()["models"][0]
        assert (model["active_version"], model["versions"][0]["reason"]) == (3, "file")
        # the file of the versions before is still there
        assert client.put("/v1/models/textures/version", json={"version": 2}).json()["threshold"] == threshold
        assert post(client, png(textures(1)[0])).json()["version"] == 2


def test_after_100_reviews_the_false_alarm_rate_on_fresh_images_is_within_the_band(
    model_path, tmp_path
) -> None:
    """The images have changed; the sample replaces the calibration images."""
    with client_of(settings(model_path, tmp_path, keep="none")) as (client, _):
        changed = (textures(300, seed=21) * 0.9).astype(np.uint8)
        review(client, send(client, changed[:100]))
        assert recalibrate(client, use="replace").status_code == 201
        alarms = sum(post(client, png(image)).json()["is_anomaly"] for image in changed[100:])
    # the tenth largest of 100 scores is the threshold; one test in a thousand would be outside by chance
    lowest, highest = betabinom(200, 10, 91).ppf([0.0005, 0.9995])
    assert lowest <= alarms <= highest


def test_a_model_of_several_products_predicts_as_it_does_elsewhere_and_is_not_recalibrated(tmp_path) -> None:
    across = np.ascontiguousarray((128 + textures(30, seed=50) // 4).transpose(0, 2, 1))
    images = np.concatenate([textures(30), across])
    products = ["bolt"] * 30 + ["nut"] * 30
    options = {"ngf": 4, "ndf": 8, "nz": 4, "embedding": 8}
    detector = GANomalyDetector(
        "small", epochs=3, image_size=32, false_alarm_rate=0.2, method_options=options
    )
    detector.fit(images, products=products).save(tmp_path / "parts.safetensors")
    with client_of(settings(tmp_path / "parts.safetensors", tmp_path)) as (client, station):
        some = images[::7]
        answers = [post(client, png(image), "parts").json() for image in some]
        np.testing.assert_allclose([a["p_value"] for a in answers], detector.p_value(some))
        assert [a["product"] for a in answers] == ["bolt"] * 5 + ["nut"] * 4
        review(client, [a["id"] for a in answers])
        refused = client.post("/v1/models/parts/recalibrations", json={})
        assert refused.status_code == 422
        assert "several products" in refused.json()["error"]
        assert len(station.models["parts"].resident.predictor.calibration.products) == 2
