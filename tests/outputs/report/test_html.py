import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganomaly.errors import UsageError
from ganomaly.metrics import image_metrics
from ganomaly.outputs.report import ReportBuilder
from ganomaly.prediction import Prediction

HOSTILE = "<script>alert(1)</script>/</script><img src=x onerror=alert(2)>&\"'`${1}{{ 7*7 }}\u2028.png"


def builder(**changed):
    settings = {
        "title": "Parts",
        "threshold": 0.5,
        "false_alarm_rate": 0.05,
        "calibration_scores": np.linspace(0.1, 0.5, 20),
        "model_summary": {"Method": "GANomaly"},
    }
    return ReportBuilder(**(settings | changed))


def predicted(path, score):
    return Prediction(0, path, score=score, normalized_score=0.2, p_value=0.3, is_anomaly=score > 0.5)


def broken(path, why="the file is cut off; copy it again"):
    return Prediction(0, path, why)


def panel(value=0, shape=(8, 8)):
    return {"image": np.full(shape, value, np.uint8)}


class Page(HTMLParser):
    """What a browser would make of the file: elements, visible text and JSON blocks."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.blocks, self.text, self._inside = [], {}, "", (None, {})
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.numbers = json.loads(self.blocks["numbers"])
        self.thumbnails = json.loads(self.blocks["thumbnails"])

    def handle_starttag(self, tag, attributes):
        self._inside = (tag, dict(attributes))
        self.elements.append(self._inside)

    def handle_endtag(self, tag):
        self._inside = (None, {})

    def handle_data(self, data):
        tag, attributes = self._inside
        if tag == "script":
            self.blocks[attributes.get("id")] = data
        elif tag != "style":
            self.text += data


def written(report, folder, **options):
    report.write(folder / "report.html", **options)
    return Page(folder / "report.html")


def test_every_row_is_in_the_report_with_its_numbers_in_the_order_added(tmp_path):
    report = builder()
    scores = [0.3, 0.9, 0.1 + 0.2]
    for number, score in enumerate(scores):
        report.add(predicted(f"{number}.png", score), panel(), kind="hole", labelled_anomalous=number == 1)
    page = written(report, tmp_path)
    assert page.numbers["path"] == ["0.png", "1.png", "2.png"]
    assert page.numbers["score"] == scores
    assert page.numbers["labelled_anomalous"] == [False, True, False]
    assert page.numbers["calibration_scores"] == np.linspace(0.1, 0.5, 20).tolist()


def test_hostile_names_are_text_and_never_markup(tmp_path):
    report = builder(title=HOSTILE, notice=HOSTILE, model_summary={HOSTILE: HOSTILE})
    report.add(predicted(HOSTILE, 0.9), {HOSTILE: panel()["image"]}, kind=HOSTILE, labelled_anomalous=True)
    report.add(broken(HOSTILE, HOSTILE), {})
    page = written(report, tmp_path)
    tags = [tag for tag, _ in page.elements]
    assert "img" not in tags
    assert tags.count("script") == 3  # numbers, thumbnails and the program
    assert page.numbers["path"] == page.numbers["kind"] == [HOSTILE]
    assert page.thumbnails["names"] == [HOSTILE]
    assert page.text.count("<script>alert(1)</script>") == 7
    assert "49" not in page.text


@settings(max_examples=30, deadline=None)
@given(path=st.text(), kind=st.none() | st.text(), why=st.text(alphabet=st.characters(codec="utf-8")))
def test_any_file_name_comes_back_as_it_was(tmp_path_factory, path, kind, why):
    report = builder()
    report.add(predicted(path, 0.9), {}, kind=kind)
    report.add(broken("b.png", why), {})
    page = written(report, tmp_path_factory.mktemp("report"))
    assert page.numbers["path"] == [path]
    assert page.numbers["kind"] == [kind]


def test_a_file_name_that_is_no_text_does_not_stop_the_report(tmp_path):
    report = builder()
    report.add(predicted("caf\udce9.png", 0.9), panel())
    report.add(broken("caf\udce9.png"), {})
    assert written(report, tmp_path).numbers["path"] == ["caf\udce9.png"]


def test_nothing_outside_the_file_is_requested(tmp_path):
    report = builder()
    report.add(predicted("a.png", 0.9), panel())
    page = written(report, tmp_path)
    addresses = [
        value
        for _, attributes in page.elements
        for key, value in attributes.items()
        if key in ("src", "href")
    ]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert re.findall(r"https?://[^\"'\s]+", page.source) == [
        "http://www.w3.org/2000/svg"
    ]  # a name, not an address
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|\bimport\(", page.source)


def test_only_the_highest_scores_have_thumbnails(tmp_path):
    report = builder(max_thumbnails=5)
    called = []

    def panels(number):
        return lambda: called.append(number) or panel(number)

    for number, score in enumerate(np.random.default_rng(0).permutation(100)):
        report.add(predicted(f"{score:03}.png", float(score)), panels(number))
    page = written(report, tmp_path)
    with_thumbnails = {page.numbers["path"][int(row)] for row in page.thumbnails["by_row"]}
    assert with_thumbnails == {f"{score:03}.png" for score in range(95, 100)}
    assert len(page.numbers["path"]) == 100
    assert len(called) < 40  # panels that cannot be among the highest are not even made
    assert page.numbers["max_thumbnails"] == 5


def test_a_share_of_the_thumbnails_is_reserved_for_likely_misses(tmp_path):
    report = builder(max_thumbnails=8)
    for score in np.random.default_rng(1).permutation(100):
        labelled_anomalous = bool(score % 10 == 3)
        report.add(predicted(f"{score}", float(score)), panel(), labelled_anomalous=labelled_anomalous)
    page = written(report, tmp_path)
    with_thumbnails = {int(page.numbers["path"][int(row)]) for row in page.thumbnails["by_row"]}
    assert with_thumbnails == {3, 13} | {94, 95, 96, 97, 98, 99}


@pytest.mark.parametrize("capacity", [1, 2, 3, 4, 7])
def test_there_are_never_more_thumbnails_than_allowed(tmp_path, capacity):
    report = builder(max_thumbnails=capacity)
    for number in range(30):
        report.add(
            predicted(f"{number}", float(number * 7 % 30)), panel(), labelled_anomalous=number % 3 == 0
        )
    assert len(written(report, tmp_path).thumbnails["by_row"]) == capacity


def test_a_report_works_without_labels_without_images_and_without_anomalous_ones(tmp_path):
    unlabelled = builder()
    unlabelled.add(predicted("a.png", 0.1), panel())
    assert written(unlabelled, tmp_path).numbers["evaluation"] is None
    assert written(builder(), tmp_path).numbers["path"] == []
    all_normal = builder()
    all_normal.add(predicted("a.png", 0.1), panel(), labelled_anomalous=False)
    evaluation = written(all_normal, tmp_path).numbers["evaluation"]
    assert (evaluation["image_auroc"], evaluation["false_alarm_rate"]) == (None, 0.0)


def test_figures_come_from_the_labels_or_as_given(tmp_path):
    report = builder()
    for score, anomalous in [(0.1, False), (0.6, False), (0.55, True), (0.9, True)]:
        report.add(predicted("a.png", score), panel(), kind="hole", labelled_anomalous=anomalous)
    report.add(predicted("unlabelled.png", 0.7), panel())
    evaluation = written(report, tmp_path).numbers["evaluation"]
    assert evaluation["image_auroc"] == 0.75
    assert evaluation["per_kind"] == {"hole": {"image_auroc": 0.75, "n": 2}}
    given_figures = image_metrics([0.0, 1.0], [True, False], 0.5)
    page = written(report, tmp_path, evaluation=given_figures)
    assert page.numbers["evaluation"] == given_figures.to_json_dict()


def test_broken_images_are_listed_with_their_sentence_and_are_no_images(tmp_path):
    report = builder()
    report.add(broken("cut.jpg"), lambda: pytest.fail("a broken image has no panels"))
    page = written(report, tmp_path)
    assert "cut.jpg" in page.text
    assert "the file is cut off; copy it again" in page.text
    assert (page.numbers["path"], page.numbers["n_errors"]) == ([], 1)
    report.add(predicted("a.png", 0.1), panel())
    assert "1 of 2 images could not be read" in written(report, tmp_path).text


def test_a_notice_is_shown(tmp_path):
    assert "simulated images" in written(builder(notice="simulated images"), tmp_path).text


@pytest.mark.parametrize(("side", "kind"), [(8, "webp"), (64, "webp"), (65, "jpeg"), (1000, "jpeg")])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_thumbnails_are_small_and_lossless_where_pixels_are_visible(tmp_path, side, kind, channels):
    report = builder()
    report.add(predicted("a.png", 0.9), panel(7, (side, side // 2, *channels)))
    [[name, width, height, uri]] = written(report, tmp_path).thumbnails["by_row"]["0"]
    longer = min(side, 128)
    assert (name, width, height) == (0, longer // 2, longer)
    assert uri.startswith(f"data:image/{kind};base64,")


def test_any_number_of_panels_with_any_names_is_shown_in_order(tmp_path):
    report = builder()
    report.add(
        predicted("a.png", 0.9), {name: panel()["image"] for name in ("image", "overlay", "mask", "x̂")}
    )
    report.add(predicted("b.png", 0.9), {name: panel()["image"] for name in ("mask", "image")})
    thumbnails = written(report, tmp_path).thumbnails
    assert thumbnails["names"] == ["image", "overlay", "mask", "x̂"]
    assert [name for name, *_ in thumbnails["by_row"]["1"]] == [2, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4), np.uint8),
    ],
)
def test_a_panel_of_another_shape_or_type_is_refused_in_words(wrong):
    with pytest.raises(UsageError, match="the report takes uint8"):
        builder().add(predicted("a.png", 0.9), {"image": wrong})


@pytest.mark.parametrize(
    "wrong", [{"threshold": np.nan}, {"calibration_scores": [0.1, np.inf]}, {"max_thumbnails": 0}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError):
        builder(**wrong)


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(UsageError, match=r"a\.png is nan"):
        builder().add(predicted("a.png", float("nan")), panel())


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path):
    target = tmp_path / "report.html"
    target.write_text("the old report")
    report = builder(model_summary={"Method": Unprintable()})
    with pytest.raises(ZeroDivisionError):
        report.write(target)
    assert target.read_text() == "the old report"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(UsageError, match="does not exist"):
        builder().write(tmp_path / "missing" / "report.html")


class Unprintable:
    """Fails in the middle of the page."""

    def __str__(self):
        raise ZeroDivisionError


def test_thumbnails_of_many_images_take_bounded_memory():
    report = builder(max_thumbnails=10)
    for number in range(500):
        report.add(predicted("a.png", float(number)), panel())
    assert len(report._thumbnails.by_row()) == 10
