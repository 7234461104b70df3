"""A person at the station, in Chromium: with a keyboard, with a mouse, and without JavaScript."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

from images import textures
from service.stations import png, served, settings

pytestmark = pytest.mark.browser


@pytest.fixture
def address(model_path: Path, tmp_path: Path) -> Iterator[str]:
    with served(settings(model_path, tmp_path)) as (url, _):
        yield url


@pytest.fixture
def page(browser) -> Iterator:
    """A page that fails the test where the browser reports an error."""
    opened = browser.new_page(viewport={"width": 1180, "height": 820})
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield opened
    opened.close()
    assert errors == []


def upload(page, address: str, name: str, content: bytes) -> int:
    page.goto(f"{address}/upload")
    page.set_input_files("input[type=file]", {"name": name, "mimeType": "image/png", "buffer": content})
    page.get_by_role("button", name="Predict").click()
    page.wait_for_url("**/predictions/*")
    return int(page.url.rpartition("/")[2])


def test_from_an_upload_to_another_verdict_and_back(page, address: str) -> None:
    odd = textures(30, seed=3)[:, ::-1] // 2  # darker than what the model knows: each is an alarm
    for number, image in enumerate(odd[:8]):
        upload(page, address, f"part {number}", png(image))
    expect(page.locator("main .badge").first).to_contain_text("anomalous")
    borderline = page.url

    # the queue by keyboard: normal, take it back, another verdict
    page.goto(address)
    count, name = page.locator(".count").first, page.locator("dd").nth(3)
    expect(count).to_have_text("8")
    first = name.inner_text()
    page.keyboard.press("n")
    expect(page.locator(".undo")).to_contain_text(f"{first} is normal")
    expect(count).to_have_text("7")
    page.keyboard.press("u")
    expect(count).to_have_text("8")
    expect(name).to_have_text(first)
    page.keyboard.press("1")
    expect(page.locator(".undo")).to_contain_text(f"{first} is defect")
    page.keyboard.press("u")
    expect(count).to_have_text("8")

    # all of the sample are normal
    page.goto(f"{address}/?view=sample")
    for left in range(8, 0, -1):
        expect(count).to_have_text(str(left))
        page.keyboard.press("n")
    expect(page.get_by_text("Nothing to review here")).to_be_visible()

    # recalibrate with them alone
    page.goto(f"{address}/models/textures")
    page.select_option("select[name=use]", "replace")
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("button", name="Take it").click()
    page.get_by_text("Version 2 predicts").wait_for()
    again = upload(page, address, "the same", png(odd[7]))
    assert page.locator("main .badge").first.inner_text().strip().endswith("normal")
    assert f"/{again}" in page.url
    assert page.url != borderline

    # and back
    page.goto(f"{address}/models/textures")
    page.get_by_role("button", name="Put back").click()
    page.get_by_text("Version 1 predicts").wait_for()
    upload(page, address, "once more", png(odd[7]))
    assert page.locator("main .badge").first.inner_text().strip().endswith("anomalous")


def test_the_slider_recounts_before_anything_changes(page, address: str) -> None:
    for number, image in enumerate(textures(4)):
        upload(page, address, f"part {number}", png(image))
    page.goto(f"{address}/models/textures")
    before = page.locator(".lede").inner_text()
    page.locator("#step").focus()
    with page.expect_response("**/threshold?step=*"):
        page.keyboard.press("End")
    page.get_by_text("20 %").wait_for()
    assert page.locator(".lede").inner_text() == before
    page.get_by_role("button", name="Take this threshold").click()
    page.get_by_text("Version 2 predicts").wait_for()


def test_the_live_view_shows_new_images_by_itself(page, address: str, browser) -> None:
    page.goto(f"{address}/live")
    assert page.get_by_text("No image yet").is_visible()
    other = browser.new_page()
    upload(other, address, "a new part", png(textures(1)[0]))
    other.close()
    page.get_by_text("a new part").wait_for(timeout=20_000)


def test_without_javascript_the_queue_is_readable_and_takes_a_review(address: str, browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    for number, image in enumerate(textures(2)):
        upload(page, address, f"part {number}", png(image))
    page.goto(address)
    assert page.locator("figure img").first.is_visible()
    assert page.locator(".count").first.inner_text() == "2"
    page.get_by_role("button", name="normal").click()
    assert page.locator(".count").first.inner_text() == "1"
    page.get_by_role("button", name="undo").click()
    assert page.locator(".count").first.inner_text() == "2"
    page.goto(f"{address}/models/textures")
    page.get_by_role("button", name="Recount").click()
    assert "step=" in page.url
    context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1180, "light"), (768, "dark"), (390, "light")])
def test_pages_fit_their_window_and_every_control_has_a_name(
    address: str, browser, scheme: str, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    upload(page, address, "a part with a name that is rather long for a card.png", png(textures(1)[0]))
    for path in ("/", "/?view=all", "/live", "/models/textures", "/upload"):
        page.goto(address + path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        unnamed = page.evaluate(
            "[...document.querySelectorAll('button, a, input:not([type=hidden]), select')].filter(e =>"
            " !(e.innerText || '').trim() && !e.labels?.length && !e.ariaLabel && !e.querySelector('img')).length"
        )
        assert unnamed == 0
    page.close()
