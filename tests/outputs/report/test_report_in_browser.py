"""The report as a user opens it: from disk, offline, in Chromium."""

from contextlib import contextmanager

import numpy as np
import pytest

from ganomaly.calibration import Calibration
from ganomaly.outputs.report import ReportBuilder
from ganomaly.prediction import Prediction

pytestmark = pytest.mark.browser

N_IMAGES = 2000
KINDS = np.array([None, "hole", "crack", None, None, "hole", None, None])


@pytest.fixture(scope="module")
def images():
    """Scores, kinds and labels of the images in the report; normal and anomalous scores overlap."""
    rng = np.random.default_rng(3)
    kinds = KINDS[np.arange(N_IMAGES) % len(KINDS)]
    anomalous = np.array([kind is not None for kind in kinds])
    scores = rng.lognormal(-3, 0.3, N_IMAGES) * np.where(anomalous, rng.uniform(0.8, 6, N_IMAGES), 1)
    paths = np.array([f"parts/{kind or 'good'}/{n:04}.png" for n, kind in enumerate(kinds)])
    return {"score": scores, "kind": kinds, "anomalous": anomalous, "path": paths}


@pytest.fixture(scope="module")
def calibration():
    return Calibration(np.random.default_rng(4).lognormal(-3, 0.3, 200), false_alarm_rate=0.02)


@pytest.fixture(scope="module")
def report(tmp_path_factory, images, calibration):
    """A report of 2,000 labelled images with three panels each, and two that could not be read."""
    builder = make_builder(calibration)
    rng = np.random.default_rng(5)
    pixels = [rng.integers(0, 255, (48, 48, 3), dtype=np.uint8) for _ in range(8)]
    for n in range(N_IMAGES):
        panels = {"image": pixels[n % 8], "reconstruction": pixels[0], "difference": pixels[1]}
        add_image(builder, images, calibration, n, panels)
    for name in ("cut.jpg", "text.png"):
        builder.add(Prediction(0, name, "the file is no image; remove it"), {})
    path = tmp_path_factory.mktemp("browser") / "report.html"
    builder.write(path)
    return path


@pytest.fixture
def page(browser, report):
    with opened(browser, report) as page:
        yield page


@contextmanager
def opened(browser, path):
    """A page without a network; the test fails if the page requests anything or logs anything."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_offline(True)
    page = context.new_page()
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("data:", path.as_uri())) else problems.append(request.url)
        ),
    )
    page.goto(path.as_uri())
    yield page
    context.close()
    assert problems == []


def make_builder(calibration, **changed):
    settings = {
        "title": "Parts",
        "threshold": calibration.threshold,
        "false_alarm_rate": calibration.false_alarm_rate,
        "calibration_scores": calibration.scores,
        "model_summary": {"Method": "GANomaly"},
    }
    return ReportBuilder(**(settings | changed))


def add_image(builder, images, calibration, n, panels, *, labelled=True):
    builder.add(
        predicted(str(images["path"][n]), float(images["score"][n]), calibration),
        panels,
        kind=images["kind"][n] if labelled else None,
        labelled_anomalous=bool(images["anomalous"][n]) if labelled else None,
    )


def predicted(path, score, calibration=None):
    if calibration is None:
        return Prediction(0, path, score=score)
    return Prediction(
        0,
        path,
        score=score,
        normalized_score=float(calibration.normalized_score(score)),
        p_value=float(calibration.p_value(score)),
        is_anomaly=score > calibration.threshold,
    )


def move_slider(page, position):
    """Move the slider as a user would, and return its threshold."""
    page.locator("#slider").fill(str(position))
    return threshold_of(page)


def threshold_of(page):
    return float(page.locator("#slider").get_attribute("data-threshold"))


def count_in(page, tile):
    """The large number of a tile."""
    text = page.locator(f"#{tile} dd").evaluate("dd => dd.firstChild.textContent")
    return int(text.replace(",", ""))


def shown_paths(page):
    return page.locator(".card").evaluate_all("cards => cards.map(card => card.title)")


def assert_counts_are_right(page, images, threshold):
    called = images["score"] > threshold
    assert count_in(page, "tile-called") == called.sum()
    assert count_in(page, "tile-false-alarms") == (called & ~images["anomalous"]).sum()
    assert count_in(page, "tile-misses") == (~called & images["anomalous"]).sum()
    detected = (called & images["anomalous"]).sum()
    assert (
        f"{detected} of {images['anomalous'].sum()} detected" in page.locator("#tile-detection").inner_text()
    )


def test_the_report_opens_offline_with_the_worst_image_first(page, images):
    assert page.locator("h1").inner_text() == "Parts"
    worst = images["path"][np.argsort(-images["score"])]
    paths = shown_paths(page)
    assert 20 <= len(paths) < 300  # cards are made as they come into view
    assert paths == worst[: len(paths)].tolist()
    image = page.locator(".card img").first
    image.evaluate("image => image.decode()")
    assert image.evaluate("image => image.naturalWidth") == 48


def test_at_first_the_counts_are_those_of_the_model(page, images, calibration):
    assert threshold_of(page) == calibration.threshold
    assert_counts_are_right(page, images, calibration.threshold)


@pytest.mark.parametrize("position", [0, 137, 420, 650, 1000])
def test_moving_the_slider_counts_again_exactly(page, images, position):
    threshold = move_slider(page, position)
    assert_counts_are_right(page, images, threshold)


def test_the_slider_ranges_from_everything_anomalous_to_nothing(page):
    move_slider(page, 0)
    assert count_in(page, "tile-called") == N_IMAGES
    move_slider(page, 1000)
    assert count_in(page, "tile-called") == 0


def test_a_typed_threshold_is_used_as_typed_and_can_be_reset(page, images, calibration):
    page.locator("#threshold").fill("0.0731")
    assert threshold_of(page) == 0.0731
    assert_counts_are_right(page, images, 0.0731)
    page.get_by_role("button", name="Reset to φ").click()
    assert threshold_of(page) == calibration.threshold
    assert_counts_are_right(page, images, calibration.threshold)


def test_the_histogram_can_be_dragged(page, images, calibration):
    box = page.locator("#histogram").bounding_box()
    page.mouse.move(box["x"] + 500, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 620, box["y"] + 80)
    page.mouse.up()
    threshold = threshold_of(page)
    assert threshold > calibration.threshold
    assert_counts_are_right(page, images, threshold)


@pytest.mark.parametrize("position", [300, 420, 1000])
def test_the_false_alarm_rate_of_a_threshold_is_that_of_the_calibration_set(page, calibration, position):
    threshold = move_slider(page, position)
    rate = (1 + (calibration.scores > threshold).sum()) / (1 + len(calibration.scores))
    text = page.locator("#consequence").inner_text()
    assert f"{round(100 * rate, 1):g} % of new normal images" in text
    assert f"p-value ≤ {rate:.3f}" in text


def test_at_phi_the_report_shows_the_false_alarm_rate_of_the_model(page, calibration):
    # 4 of 201 is the largest share that is not above the chosen 2 %
    assert f"p-value ≤ {4 / (1 + len(calibration.scores)):.3f}" in page.locator("#consequence").inner_text()


def test_badges_follow_the_threshold(page, images):
    page.locator("#sort").select_option("path")
    threshold = move_slider(page, 420)
    cards = page.locator(".card").evaluate_all(
        "cards => cards.map(card => [card.title, card.querySelector('.badge').textContent])"
    )
    position = {path: n for n, path in enumerate(images["path"])}
    words = {
        (True, True): "Anomalous",
        (True, False): "Miss",
        (False, True): "False alarm",
        (False, False): "Normal",
    }
    for path, badge in cards:
        n = position[path]
        assert badge == words[bool(images["anomalous"][n]), bool(images["score"][n] > threshold)]


def test_sorting_puts_the_lowest_score_the_first_path_or_the_first_kind_first(page, images):
    page.locator("#sort").select_option("best")
    assert shown_paths(page)[:20] == images["path"][np.argsort(images["score"])][:20].tolist()
    page.locator("#sort").select_option("path")
    assert shown_paths(page)[:20] == sorted(images["path"])[:20]
    page.locator("#sort").select_option("kind")
    cracks = np.flatnonzero(images["kind"] == "crack")
    in_order = cracks[np.argsort(-images["score"][cracks])]
    assert shown_paths(page)[:20] == images["path"][in_order][:20].tolist()


def test_wrong_verdicts_first_puts_false_alarms_and_misses_first(page, images):
    threshold = move_slider(page, 420)
    page.locator("#sort").select_option("surprising")
    wrong = (images["score"] > threshold) != images["anomalous"]
    n_wrong = min(int(wrong.sum()), 40)
    assert n_wrong > 10
    assert set(shown_paths(page)[:n_wrong]) <= set(images["path"][wrong])


def test_filters_show_one_kind_one_verdict_and_matches_of_the_search(page, images):
    threshold = move_slider(page, 420)
    called = images["score"] > threshold
    page.locator("#kind").select_option("=hole")
    holes = images["kind"] == "hole"
    assert page.locator("#shown").inner_text() == f"{holes.sum()} of 2,000"
    assert set(shown_paths(page)) <= set(images["path"][holes])
    page.locator("#verdict").select_option("miss")
    assert page.locator("#shown").inner_text() == f"{(holes & ~called).sum()} of 2,000"
    page.locator("#kind").select_option("")
    page.locator("#verdict").select_option("false alarm")
    assert page.locator("#shown").inner_text() == f"{(~images['anomalous'] & called).sum()} of 2,000"
    page.locator("#verdict").select_option("all")
    page.locator("#search").fill("CRACK/000")
    expected = [path for path in images["path"] if "crack/000" in path]
    assert sorted(shown_paths(page)) == sorted(expected)
    page.locator("#search").fill("no such file")
    assert shown_paths(page) == []
    page.get_by_role("button", name="Show all images").click()
    assert page.locator("#shown").inner_text() == "2,000"


def test_a_filter_by_verdict_follows_the_slider(page, images):
    page.locator("#verdict").select_option("anomalous")
    threshold = move_slider(page, 500)
    expected = int((images["score"] > threshold).sum())
    page.wait_for_function(
        "n => document.getElementById('shown').textContent.startsWith(n)", arg=f"{expected} of"
    )


def test_cards_are_created_while_scrolling(page):
    before = len(shown_paths(page))
    for _ in range(4):
        page.mouse.wheel(0, 20_000)
        page.wait_for_function("n => document.querySelectorAll('.card').length > n", arg=before)
        before = len(shown_paths(page))
    assert before < N_IMAGES


def test_a_card_is_opened_and_closed_by_keyboard(page, images):
    worst = images["path"][np.argsort(-images["score"])]
    page.locator(".card").first.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert worst[0] in dialog.inner_text()
    assert dialog.locator("img").count() == 3
    page.keyboard.press("ArrowRight")
    assert worst[1] in dialog.inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("#enlarged").evaluate("dialog => dialog.open")


def test_kinds_and_broken_images_are_listed(page, images):
    table = page.locator("#kinds").inner_text()
    assert [kind in table for kind in ("hole", "crack", "normal")] == [True] * 3
    page.get_by_text("Images that could not be read").click()
    assert page.get_by_text("the file is no image; remove it").count() == 2


def test_every_control_has_a_name(page):
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button:not(.card)')]
            .filter(control => !control.labels?.length && !control.ariaLabel && !control.textContent.trim())
            .map(control => control.id)"""
    )
    assert unnamed == []


@pytest.mark.parametrize("size", [(1400, 1000), (420, 900), (320, 640)])
def test_nothing_overflows_the_width_of_the_screen(page, size):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("n_images", [0, 1, 30])
def test_reports_without_labels_work_too(browser, tmp_path, images, calibration, n_images):
    builder = make_builder(calibration)
    for n in range(n_images):
        panels = {"image": np.zeros((9, 9), np.uint8)}
        add_image(builder, images, calibration, n, panels, labelled=False)
    builder.write(tmp_path / "unlabelled.html")
    with opened(browser, tmp_path / "unlabelled.html") as page:
        threshold = move_slider(page, 300)
        assert count_in(page, "tile-called") == (images["score"][:n_images] > threshold).sum()
        assert page.locator("#tile-misses").count() == 0
        assert "False alarms" not in page.locator("#verdict").inner_text()


@pytest.mark.parametrize(
    ("n", "words"),
    [(13, "7.1 %\n1 % was asked for; 13 calibration images are too few"), (99, "99 calibration images")],
)
def test_a_rate_that_was_not_attained_is_stated(browser, images, tmp_path, n, words):
    calibration = Calibration(np.random.default_rng(4).lognormal(-3, 0.3, n), false_alarm_rate=0.01)
    builder = make_builder(calibration)
    add_image(builder, images, calibration, 0, {})
    builder.write(tmp_path / "few.html")
    with opened(browser, tmp_path / "few.html") as page:
        assert words in page.locator("#tiles").inner_text().replace("\u00a0", " ").replace("\u202f", " ")
        assert ("too few" in page.locator("#tiles").inner_text()) == (n == 13)


def test_the_report_says_when_it_contains_only_a_part_of_the_images(browser, tmp_path, images, calibration):
    builder = make_builder(calibration, max_thumbnails=10)
    for n in range(30):
        add_image(builder, images, calibration, n, {"image": np.zeros((9, 9), np.uint8)})
    builder.write(tmp_path / "cut.html")
    with opened(browser, tmp_path / "cut.html") as page:
        assert "contains 10 of the 30 images" in page.locator("#thumbnail-limit").inner_text()
        assert page.locator(".card").count() == 30
        assert page.locator(".no-image").count() == 20


def test_a_hostile_file_name_runs_nothing(browser, tmp_path, calibration):
    hostile = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    builder = make_builder(calibration, notice=hostile, model_summary={hostile: hostile})
    panels = {hostile: np.zeros((9, 9), np.uint8)}
    builder.add(predicted(hostile, 0.5), panels, kind=hostile, labelled_anomalous=True)
    builder.add(Prediction(0, hostile, hostile), {})
    builder.write(tmp_path / "hostile.html")
    with opened(browser, tmp_path / "hostile.html") as page:
        page.locator(".card").click()
        assert page.title() == "Parts"
        assert page.locator("img").count() == 2  # the card's image and its enlargement
        assert shown_paths(page) == [hostile]


@pytest.mark.parametrize("scores", [[0.0, 0.0], [1e-9, 5.0, 4e4], [0.3, 0.3, 0.3], [1e12, 2e12]])
def test_scores_of_any_size_fit_on_the_scale(browser, tmp_path, scores):
    builder = ReportBuilder(
        title="Parts", threshold=0.3, false_alarm_rate=0.1, calibration_scores=[0.3], model_summary={}
    )
    for n, score in enumerate(scores):
        builder.add(predicted(f"{n}.png", score), {"image": np.zeros((9, 9), np.uint8)})
    builder.write(tmp_path / "odd.html")
    with opened(browser, tmp_path / "odd.html") as page:
        threshold = move_slider(page, 0)
        assert np.isfinite(threshold)
        assert move_slider(page, 1000) >= max(scores)
        assert count_in(page, "tile-called") == 0
        assert "NaN" not in page.locator("main").inner_html()


def test_an_image_at_the_threshold_is_normal(browser, tmp_path, calibration):
    builder = make_builder(calibration, threshold=0.5)
    for score in (0.5, 0.6):
        builder.add(predicted(f"{score}.png", score), {"image": np.zeros((9, 9), np.uint8)})
    builder.write(tmp_path / "tie.html")
    with opened(browser, tmp_path / "tie.html") as page:
        assert count_in(page, "tile-called") == 1
        assert page.locator(".badge").all_text_contents() == ["Anomalous", "Normal"]


@pytest.mark.parametrize("width", [1400, 390])
def test_an_audit_shows_its_figures_and_pairs_without_overflowing(browser, tmp_path, calibration, width):
    from ganomaly.metrics import audit_metrics
    from ganomaly.outputs.report import ReportAudit, ReportPair

    hostile = "<img src=x onerror=\"document.title='taken'\">"
    audit = audit_metrics(
        [4, 5, 6], [1, 5, 2], ["hole", "hole", hostile], [1, 2, 3], [1], [1], ["hole"], n_mask_too_large=2
    )
    panels = {"image": np.zeros((90, 60), np.uint8), "overlay": np.zeros((90, 60, 3), np.uint8)}
    pairs = [
        ReportPair(f"parts/{kind}/{n}.png", kind, 4.5, 0.25, panels, panels)
        for n, kind in enumerate(("hole", hostile))
    ]
    builder = make_builder(calibration)
    builder.add(predicted("a.png", 0.5), panels, kind="hole", labelled_anomalous=True)
    builder.write(tmp_path / "audit.html", audit=ReportAudit(audit, pairs))
    with opened(browser, tmp_path / "audit.html") as page:
        page.set_viewport_size({"width": width, "height": 900})
        section = page.get_by_role("region", name="Audit: does the model see the defects?")
        assert audit.conclusion in section.inner_text()
        rows = section.locator("#audit-figures tbody tr")
        assert [row.split("\t")[:2] for row in rows.all_inner_texts()] == [
            ["all kinds", "3"],
            [hostile, "1"],
            ["hole", "2"],
        ]
        assert rows.first.locator("td").all_inner_texts() == [
            "3",
            "1.000",
            "0.556",
            "0.833",
            "0.833",
            "0.500",
        ]
        assert "left out since their mask covers more than a tenth of them: 2." in section.inner_text()
        assert section.locator("img").count() == 2 * 2 * 2
        assert section.locator("figcaption").all_inner_texts()[:2] == [
            "4.5 with the defect",
            "0.25 without the defect",
        ]
        assert page.title() == "Parts"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
