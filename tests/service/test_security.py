"""Who may do what, and what a browser can be made to do."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from ganomaly.errors import UsageError
from ganomaly.service.security import HEADERS, RateLimit, RequestError
from ganomaly.service.settings import Settings
from ganomaly.service.station import Station
from ganomaly.store import open_store
from ganomaly.store.keys import ROLES, add_key, revoke_key
from images import textures
from service.stations import client_of, png, post, settings
from shell import ganomaly

IMAGE = png(textures(1)[0])

ROUTES = {
    # method, path, what is sent: the lowest role that may
    ("POST", "/v1/models/textures/predictions", "image"): "station",
    ("GET", "/v1/models", None): "station",
    ("GET", "/v1/predictions/1", None): "station",
    ("GET", "/v1/predictions/1/image", None): "station",
    ("GET", "/v1/predictions/1/map", None): "station",
    ("GET", "/v1/predictions/1/overlay", None): "station",
    ("GET", "/metrics", None): "station",
    ("GET", "/v1/predictions", None): "reviewer",
    ("PUT", "/v1/predictions/1/review", '{"label": "normal"}'): "reviewer",
    ("DELETE", "/v1/predictions/1/review", None): "reviewer",
    ("GET", "/v1/models/textures/drift", None): "reviewer",
    ("POST", "/v1/models/textures/recalibrations", '{"dry_run": true}'): "admin",
    ("PUT", "/v1/models/textures/version", '{"version": 1}'): "admin",
    ("GET", "/predictions/1", None): "reviewer",
    ("GET", "/live", None): "reviewer",
    ("GET", "/models/textures", None): "reviewer",
    ("GET", "/models/textures/threshold?step=2", None): "reviewer",
    ("GET", "/images/1/image.jpg", None): "reviewer",
    ("GET", "/upload", None): "station",
    ("POST", "/upload", "form"): "station",
    ("POST", "/predictions/1/review", "form"): "reviewer",
    ("POST", "/predictions/1/undo", "form"): "reviewer",
    ("POST", "/models/textures/recalibrate", "form"): "admin",
    ("POST", "/models/textures/rate", "form"): "admin",
    ("POST", "/models/textures/version", "form"): "admin",
}
OPEN = {
    ("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/openapi.json"), ("GET", "/"), ("GET", "/sign-in"),
    ("POST", "/sign-in"), ("POST", "/sign-out"), ("GET", "/static/report.css"),
}  # fmt: skip
FIELDS = {"label": "normal", "value": "0.2", "number": "1", "model": "textures"}


@pytest.fixture
def guarded(model_path: Path, tmp_path: Path) -> Iterator[tuple[TestClient, Station, dict[str, str]]]:
    """A station with a key for each role."""
    with client_of(settings(model_path, tmp_path)) as (client, station):
        post(client, IMAGE)
        with station.store.writing() as session:
            keys = {role: add_key(session, role, role, "test") for role in ROLES}
        yield client, station, keys


def ask(client: TestClient, route: tuple, headers: dict[str, str]) -> int:
    method, path, body = route
    sent: dict = {}
    if body == "image":
        sent = {"content": IMAGE}
    elif body == "form" and path == "/upload":
        sent = {"data": FIELDS, "files": {"image": ("a.png", IMAGE)}}
    elif body == "form":
        sent = {"data": FIELDS}
    elif body is not None:
        sent = {"content": body, "headers": {"Content-Type": "application/json", **headers}}
    return client.request(method, path, follow_redirects=False, **{"headers": headers, **sent}).status_code


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route[0]} {route[1]}")
def test_each_role_may_what_the_table_says(guarded, route: tuple) -> None:
    client, _, keys = guarded
    needed = ROLES.index(ROUTES[route])
    assert ask(client, route, {}) == 401
    assert ask(client, route, {"Authorization": "Bearer gan_wrong"}) == 401
    for position, role in enumerate(ROLES):
        status = ask(client, route, {"Authorization": f"Bearer {keys[role]}"})
        assert (status == 403) == (position < needed), (role, status)
        assert status < 500
        assert status != 401


def test_the_table_has_every_route(guarded) -> None:
    client, _, _ = guarded

    def pattern(path: str) -> str:
        return re.sub(
            r"\{what\}",
            "image",
            re.sub(r"\{(model|name)\}", "textures", re.sub(r"\{(id|number)\}", "1", path)),
        )

    known = {(method, path.partition("?")[0]) for method, path, _ in ROUTES} | OPEN
    found = set(_routes(client.app, pattern))
    assert {(method, path.partition("?")[0]) for method, path, _ in ROUTES} <= found <= known


def _routes(app, pattern) -> Iterator[tuple[str, str]]:
    """Methods and paths of all routes, those of included routers too."""
    waiting = list(app.routes)
    while waiting:
        route = waiting.pop()
        waiting += getattr(getattr(route, "original_router", None), "routes", [])
        for method in getattr(route, "methods", None) or ():
            if method != "HEAD" and not route.path.startswith(("/docs", "/redoc")):
                yield method, pattern(route.path)


def test_without_keys_this_machine_alone_may_everything(station) -> None:
    client, _ = station
    assert post(client, IMAGE).status_code == 201
    assert client.get("/v1/predictions").status_code == 200
    # a name that another site pointed at this machine
    assert client.get("/v1/predictions", headers={"Host": "evil.example"}).status_code == 403


def test_nobody_is_let_in_without_a_key_through_a_proxy_or_once_there_was_a_key(station) -> None:
    client, opened = station
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        assert client.get("/v1/models", headers={name: "203.0.113.7"}).status_code == 401
    with opened.store.writing() as session:
        add_key(session, "ann", "admin", "test")
        revoke_key(session, "ann", "test")
    assert client.get("/v1/models").status_code == 401


def test_a_station_sees_what_it_sent_alone(guarded) -> None:
    client, _, keys = guarded
    headers = {"Authorization": f"Bearer {keys['station']}"}
    own = post(client, IMAGE, headers=headers).json()
    for path in (f"/v1/predictions/{own['id']}", own["image_url"], own["map_url"], own["overlay_url"]):
        assert client.get(path, headers=headers).status_code == 200
        assert client.get(path.replace(f"/{own['id']}", "/1"), headers=headers).status_code == 404


def test_a_browser_gets_a_page_and_a_program_a_sentence(guarded) -> None:
    client, _, keys = guarded
    page = {"Accept": "text/html"}
    assert (
        client.get("/models/textures", headers=page, follow_redirects=False).headers["location"] == "/sign-in"
    )
    key = {"Authorization": f"Bearer {keys['admin']}"}
    missing = client.get("/predictions/99", headers=page | key)
    assert (missing.status_code, "<h1>" in missing.text) == (404, True)
    assert list(client.get("/v1/predictions/99", headers=page | key).json()) == ["error"]


def test_another_address_needs_keys_to_start(model_path: Path, tmp_path: Path) -> None:
    started = ganomaly("serve", model_path, "--store", tmp_path / "a.db", "--host", "0.0.0.0", "--port", "0")
    assert started.returncode == 2
    assert "keys are needed" in started.stderr


def test_keys_are_made_listed_and_revoked_by_the_command_line(tmp_path: Path) -> None:
    store = ("--store", tmp_path / "a.db")
    made = ganomaly("serve", "keys", "add", "camera 1", "--role", "station", *store)
    assert made.returncode == 0
    secret = made.stdout.strip()
    assert secret.startswith("gan_")
    assert ganomaly("serve", "keys", "list", *store).stdout.split("\t") == ["camera 1", "station", "valid\n"]
    assert ganomaly("serve", "keys", "add", "camera 1", *store).returncode == 2
    assert ganomaly("serve", "keys", "revoke", "camera 1", *store).returncode == 0
    assert "revoked" in ganomaly("serve", "keys", "list", *store).stdout
    opened = open_store(str(tmp_path / "a.db"))
    assert secret not in (tmp_path / "a.db").read_bytes().decode("latin-1")
    opened.close()


def sign_in(client: TestClient, key: str) -> str:
    """Sign a browser in; the token of its pages."""
    page = client.get("/sign-in").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page).group(1)
    answer = client.post("/sign-in", data={"csrf_token": token, "key": key}, follow_redirects=False)
    assert answer.status_code == 303
    return token


def test_a_browser_signs_in_with_a_key_and_out_again(guarded) -> None:
    client, station, keys = guarded
    assert client.get("/", follow_redirects=False).headers["location"] == "/sign-in"
    token = sign_in(client, keys["reviewer"])
    cookies = [line for line in client.cookies.jar if line.name == "ganomaly_session"]
    assert cookies[0].has_nonstandard_attr("HttpOnly")
    assert cookies[0].get_nonstandard_attr("SameSite").lower() == "strict"
    assert keys["reviewer"] not in str(cookies)
    assert client.get("/").status_code == 200
    assert (
        client.post("/predictions/1/review", data={"csrf_token": token, "label": "normal"}).status_code == 200
    )
    assert client.post("/models/textures/rate", data={"csrf_token": token, "value": "0.2"}).status_code == 403
    with station.store.writing() as session:
        revoke_key(session, "reviewer", "test")
    assert client.get("/live").status_code == 401


def test_a_wrong_key_does_not_sign_in(guarded) -> None:
    client, _, _ = guarded
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/sign-in").text).group(1)
    answer = client.post("/sign-in", data={"csrf_token": token, "key": "gan_wrong"})
    assert answer.status_code == 401
    assert "not valid" in answer.text


@pytest.mark.parametrize("signed_in", [True, False], ids=["signed in", "this machine without keys"])
def test_another_site_cannot_make_a_browser_ask(model_path: Path, tmp_path: Path, signed_in: bool) -> None:
    with client_of(settings(model_path, tmp_path)) as (client, station):
        post(client, IMAGE)
        if signed_in:
            with station.store.writing() as session:
                key = add_key(session, "ann", "admin", "test")
            sign_in(client, key)
        else:
            client.get("/")  # the browser has the cookie of a page
        for headers in (
            {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Referer": "https://evil.example/"},
        ):
            for ask_ in (
                lambda h: client.post("/predictions/1/review", data={"label": "normal"}, headers=h),
                lambda h: client.post(
                    "/predictions/1/review", data={"label": "normal", "csrf_token": "x"}, headers=h
                ),
                lambda h: client.put("/v1/predictions/1/review", json={"label": "normal"}, headers=h),
                lambda h: post(client, IMAGE, headers=h),
                lambda h: client.post("/models/textures/rate", data={"value": "0.2"}, headers=h),
            ):
                assert ask_(headers).status_code == 403
        assert client.get("/v1/predictions/1").json()["label"] is None


def test_every_answer_has_the_headers_that_protect_a_browser(station) -> None:
    client, _ = station
    for path in ("/", "/v1/models", "/nothing", "/static/service.css", "/health/live"):
        answer = client.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert "server" not in answer.headers
    assert "'unsafe-inline'" not in HEADERS["Content-Security-Policy"]
    page = client.get("/").text
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=|<style", page)


NAMES = [
    '"><script>alert(1)</script>',
    "../../etc/passwd",
    "a\r\nSet-Cookie: x=1",
    "{{ 7 * 7 }}",
    "\u202egnp.exe",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_and_notes_are_shown_as_text_and_never_reach_the_disk(
    station, name: str, tmp_path: Path
) -> None:
    client, _ = station
    form = client.post("/v1/models/textures/predictions", files={"image": (name, IMAGE)})
    assert form.status_code == 201
    number = post(client, IMAGE, params={"name": name}).json()["id"]
    client.put(f"/v1/predictions/{number}/review", json={"label": "normal", "note": name})
    for path in (f"/predictions/{number}", "/?view=all", "/live"):
        page = client.get(path)
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "49" not in re.findall(r"<h1>(.*?)</h1>", page.text)
    stored = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert not any("passwd" in each or "script" in each or "exe" in each for each in stored)
    assert not (tmp_path.parent / "etc").exists()


def test_after_a_review_a_browser_stays_on_the_station(station) -> None:
    client, _ = station
    post(client, IMAGE)
    token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/").text).group(1)
    for back in (
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "/a\r\nb",
    ):
        answer = client.post(
            "/predictions/1/review",
            data={"csrf_token": token, "label": "normal", "back": back},
            follow_redirects=False,
        )
        assert answer.headers["location"].startswith("/?after=")


def test_a_caller_that_asks_too_often_waits_and_others_do_not() -> None:
    limit, time = RateLimit(60), [0.0]
    for _ in range(60):
        limit.check("a", lambda: time[0])
    with pytest.raises(RequestError) as refused:
        limit.check("a", lambda: time[0])
    assert refused.value.status == 429
    assert int(refused.value.headers["Retry-After"]) >= 1
    limit.check("b", lambda: time[0])
    time[0] = 1.01
    limit.check("a", lambda: time[0])


def test_log_lines_have_no_keys_and_no_images(guarded, caplog: pytest.LogCaptureFixture) -> None:
    client, _, keys = guarded
    with caplog.at_level("INFO", logger="ganomaly.service"):
        post(
            client,
            IMAGE,
            headers={"Authorization": f"Bearer {keys['station']}", "X-Request-Id": "r-1"},
            params={"name": "secret part"},
        )
        post(client, IMAGE, headers={"X-API-Key": "gan_wrong"})
    lines = str([vars(record) for record in caplog.records])
    assert "r-1" in lines
    assert keys["station"] not in lines
    assert "gan_wrong" not in lines
    assert "secret part" not in lines
    assert "PNG" not in lines


def test_webhooks_without_a_secret_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="GANOMALY_WEBHOOK_SECRET"):
        Settings(tmp_path, webhooks=("http://a/",))
