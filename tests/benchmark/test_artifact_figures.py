"""Histogram, embedding and reconstructions: of the right images, drawn again without training, left out where they
cannot be.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from sklearn.metrics import roc_auc_score

from ganomaly.benchmark import (
    Budget,
    Cell,
    MethodSpec,
    RowFile,
    Source,
    cell_artifacts,
    result_table,
    run_cell,
    run_grid,
    write_figures,
)
from ganomaly.benchmark.artifact_figures import embedding, histogram, reconstructions, write_artifact_figures
from ganomaly.benchmark.artifacts import (
    KEPT,
    Artifacts,
    Embedding,
    Reconstruction,
    read_artifacts,
    write_artifacts,
)
from ganomaly.benchmark.cell_artifacts import artifacts_of_classes
from ganomaly.benchmark.features import embedded, last_features, principal_components
from ganomaly.config import Preprocessing
from ganomaly.data import open_images
from ganomaly.errors import DataError
from ganomaly.methods import METHODS, Method
from ganomaly.outputs.report.figures import ANOMALOUS, NORMAL
from ganomaly.prediction.pytorch import eval_mode
from images import textures
from shell import ganomaly

SMALL = "ganomaly[nz=4;ngf=4;ndf=4]"
WITHOUT_DISCRIMINATOR = "vae[nz=4;ngf=4]"
FIGURES = ("histogram", "embedding", "reconstructions")
every_method = pytest.mark.parametrize("name", METHODS)


def cell(folder: Path, method: str = SMALL, **more) -> Cell:
    values = {"budget": Budget(epochs=1), "precision": "fp32", **more}
    return Cell(Source("mnist", folder), ("1",), MethodSpec.parsed(method), 0, **values)


def untrained(name: str) -> Method:
    """A method with small networks that take gray images of 32 px."""
    small = {"nz": 8, "ngf": 4, "ndf": 4}
    fields = METHODS[name].options_type.model_fields
    options = METHODS[name].options_type(
        **{option: value for option, value in small.items() if option in fields}
    )
    preprocessing = Preprocessing(image_size=32, channels=1)
    return METHODS[name](options, preprocessing, torch.Generator().manual_seed(0))


def kept_by_hand() -> Artifacts:
    """Normal: scores about 1, places on the left, dark images; anomalous: about 5, on the right, bright images."""
    truth = np.array([True, False, True, False])
    places = np.where(truth[:, None], 7.0, -7.0) + np.arange(4)[:, None] / [10, 5]
    pictures = [
        Reconstruction(
            np.full((4, 4, 1), 200 if anomalous else 20, np.uint8),
            np.full((4, 4, 1), 210 if anomalous else 30, np.uint8),
            bool(anomalous),
        )
        for anomalous in truth
    ]
    features = np.zeros((4, 2), np.float32)
    found = Embedding(features, places.astype(np.float32), truth)
    return Artifacts(np.where(truth, 5.0, 1.0) + np.arange(4) / 10, truth, found, pictures)


def names(paths: list[Path]) -> set[str]:
    return {path.name for path in paths}


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for name in FIGURES for path in out.glob(f"{name}_*.png")}


def shades(figure: Figure) -> list[list[list[int]]]:
    """For each block its two rows of pictures, each by its one shade."""
    found = []
    for block in figure.subfigs:
        pictures = [axes.images[0].get_array()[0, 0] if axes.images else None for axes in block.get_axes()]
        half = len(pictures) // 2
        found.append(
            [[int(shade) for shade in row if shade is not None] for row in (pictures[:half], pictures[half:])]
        )
    return found


def test_kept_scores_give_the_auroc_of_the_row(digits: Path, tmp_path: Path) -> None:
    row = run_cell(cell(digits), kept=tmp_path)[0]
    kept = read_artifacts(tmp_path / row[KEPT])
    assert kept is not None
    assert row["auroc"] != pytest.approx(0.5, abs=0.01)
    assert roc_auc_score(kept.is_anomalous, kept.scores) == pytest.approx(row["auroc"])
    assert (kept.is_anomalous.sum(), (~kept.is_anomalous).sum()) == (row["n_anomalous"], row["n_normal"])


def test_kept_images_are_of_the_class_they_are_kept_as(digits: Path, tmp_path: Path) -> None:
    kept = read_artifacts(tmp_path / run_cell(cell(digits), kept=tmp_path)[0][KEPT])
    assert kept is not None
    assert [each.is_anomalous for each in kept.reconstructions] == [False] * 8 + [True] * 8
    for each in kept.reconstructions:
        assert (each.image.max() > 200) == each.is_anomalous  # the blob is bright
        assert each.reconstruction.shape == each.image.shape == (32, 32, 1)
        assert each.reconstruction.max() < 200  # a network that saw one epoch draws no blob


def test_each_class_of_a_group_is_kept_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_artifacts, "EMBEDDED", 6)
    monkeypatch.setattr(cell_artifacts, "SHOWN", 2)
    images = textures(40)
    images[20:30], images[30:] = 0, 255
    # 20 normal images, 10 of the kind "black", 10 of the kind "white"; 16 normal ones cannot be read
    normal, nothing, one = np.zeros(20), np.full(10, np.nan), np.ones(10)
    classes = {
        "black": np.concatenate([normal, one, nothing]),
        "white": np.concatenate([normal, nothing, one]),
        "overall": np.concatenate([normal, one, one]),
    }
    scores = np.arange(40.0)
    scores[:16] = np.nan
    preprocessing = Preprocessing(image_size=32, channels=1)
    kept = artifacts_of_classes(
        untrained("ganomaly"), preprocessing, open_images(images), scores, classes, seed=0
    )
    assert kept["black"].scores.tolist() == [*range(16, 30)]
    assert kept["white"].scores.tolist() == [*range(16, 20), *range(30, 40)]
    assert kept["overall"].scores.tolist() == [*range(16, 40)]
    for name, shade in (("black", 0), ("white", 255)):
        assert kept[name].scores[kept[name].is_anomalous].min() >= 20
        found = kept[name].embedding
        assert found is not None
        assert found.is_anomalous.tolist() == [False] * 4 + [True] * 6
        spread = [np.ptp(found.features[found.is_anomalous == role], axis=0).max() for role in (False, True)]
        assert spread[1] < 1e-4 * spread[0]  # the anomalous images are all alike, the normal ones are not
        assert [np.unique(each.image).tolist() == [shade] for each in kept[name].reconstructions] == [
            *(False, False, True, True)
        ]


def test_normal_and_anomalous_are_drawn_as_what_they_are() -> None:
    kept = kept_by_hand()
    [axes] = histogram(kept, "").axes
    normal, anomalous = (patch for patch in axes.patches if not patch.get_fill())
    for patch, name, colour, least in ((normal, "Normal", NORMAL, 1), (anomalous, "Anomalous", ANOMALOUS, 5)):
        assert isinstance(patch, StepPatch)
        assert (patch.get_label(), to_hex(patch.get_edgecolor()).upper()) == (name, colour)
        values, edges, _ = patch.get_data()
        filled = edges[1:][np.nan_to_num(values) > 0]
        assert ((least < filled) & (filled < least + 0.5)).all()
    assert kept.embedding is not None
    [axes] = embedding(kept.embedding, "").axes
    on_the_left, on_the_right = axes.collections
    assert (on_the_left.get_label(), on_the_right.get_label()) == ("Normal (2)", "Anomalous (2)")
    assert (on_the_left.get_offsets()[:, 0] < 0).all()
    assert (on_the_right.get_offsets()[:, 0] > 0).all()
    np.testing.assert_allclose(on_the_left.get_facecolor()[0, :3], to_rgb(NORMAL))
    np.testing.assert_allclose(on_the_right.get_facecolor()[0, :3], to_rgb(ANOMALOUS))
    figure = reconstructions(kept.reconstructions, "")
    assert [block.get_suptitle() for block in figure.subfigs] == ["Normal", "Anomalous"]
    assert shades(figure) == [[[20, 20], [30, 30]], [[200, 200], [210, 210]]]  # images over reconstructions


def test_figures_say_what_they_show() -> None:
    kept = kept_by_hand()
    assert kept.embedding is not None
    for figure in (histogram(kept, "a title"), embedding(kept.embedding, "a title")):
        [axes] = figure.axes
        assert axes.get_title(loc="left") == "a title"
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        assert figure.legends
    assert reconstructions(kept.reconstructions, "a title").get_suptitle() == "a title"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    kept = kept_by_hand()
    write_artifacts(kept, tmp_path / "new" / "x.npz")
    again = read_artifacts(tmp_path / "new" / "x.npz")
    assert again is not None
    assert again.embedding is not None
    assert kept.embedding is not None
    np.testing.assert_array_equal(again.scores, kept.scores)
    np.testing.assert_array_equal(again.is_anomalous, kept.is_anomalous)
    np.testing.assert_array_equal(again.embedding.places, kept.embedding.places)
    np.testing.assert_array_equal(again.embedding.is_anomalous, kept.embedding.is_anomalous)
    assert shades(reconstructions(again.reconstructions, "")) == shades(
        reconstructions(kept.reconstructions, "")
    )
    assert read_artifacts(tmp_path / "missing.npz") is None


def test_a_file_with_code_or_without_sense_is_refused_in_words(tmp_path: Path) -> None:
    pickled = np.array([{"a": "pickle"}], dtype=object)
    with (tmp_path / "code.npz").open("wb") as file:
        np.savez(file, scores=pickled, is_anomalous=pickled)
    (tmp_path / "torn.npz").write_bytes((tmp_path / "code.npz").read_bytes()[:100])
    (tmp_path / "text.npz").write_text("nonsense")
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    for name in ("code", "torn", "text", "other"):
        with pytest.raises(DataError, match=rf"cannot read .*{name}\.npz.*remove it"):
            read_artifacts(tmp_path / f"{name}.npz")


def test_a_second_run_draws_the_same_without_training(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = (
        *("benchmark", "mnist", "--data", digits, "--out", out, "--classes", "1", "--seeds", "0,1"),
        *("--methods", f"{SMALL},{WITHOUT_DISCRIMINATOR}", "--epochs", 1, "--precision", "fp32"),
    )
    assert ganomaly(*command).returncode == 0
    drawn, rows = contents(out), (out / "rows.jsonl").read_bytes()
    assert set(drawn) == {
        *(f"{name}_{SMALL}_1.png" for name in FIGURES),
        *(f"{name}_{WITHOUT_DISCRIMINATOR}_1.png" for name in ("histogram", "reconstructions")),
    }
    for name in drawn:
        (out / name).unlink()
    assert ganomaly(*command).returncode == 0
    assert contents(out) == drawn
    assert (out / "rows.jsonl").read_bytes() == rows


def test_a_run_that_kept_nothing_is_drawn_as_before(digits: Path, tmp_path: Path) -> None:
    rows = run_grid([cell(digits)], RowFile(tmp_path))
    for path in (tmp_path / KEPT).iterdir():
        path.unlink()
    older = [{name: value for name, value in rows[0].items() if name != KEPT}]
    for known in (rows, older):
        assert names(write_figures(result_table(known), known, tmp_path)) == {"auroc.png", "run_time.png"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(older[0]) + "\n")
    assert run_grid([cell(digits)], RowFile(tmp_path)) == older


def test_the_published_protocol_keeps_nothing(digits: Path, tmp_path: Path) -> None:
    rows = run_grid([cell(digits, protocol="published")], RowFile(tmp_path))
    assert KEPT not in rows[0]
    assert not (tmp_path / KEPT).exists()


def test_only_the_first_seed_is_drawn(tmp_path: Path) -> None:
    write_artifacts(kept_by_hand(), tmp_path / KEPT / "first.npz")
    (tmp_path / KEPT / "second.npz").write_text("would be refused if it were read")
    rows = [
        {"method": SMALL, "anomaly_class": "a/b c", "seed": seed, KEPT: f"{name}.npz"}
        for seed, name in ((3, "first"), (4, "second"))
    ]
    paths = write_artifact_figures(rows, tmp_path)
    assert names(paths) == {f"{name}_{SMALL}_a%2Fb c.png" for name in FIGURES}
    assert all(path.parent == tmp_path and path.exists() for path in paths)


def test_the_figures_of_long_names_have_names_of_their_own(tmp_path: Path) -> None:
    write_artifacts(kept_by_hand(), tmp_path / KEPT / "kept.npz")
    kinds = ["é" * 60 + end for end in "ab"]
    rows = [{"method": SMALL, "anomaly_class": kind, "seed": 0, KEPT: "kept.npz"} for kind in kinds]
    paths = write_artifact_figures(rows, tmp_path)
    assert len({path.name for path in paths if path.exists()}) == 2 * len(FIGURES)


@every_method
def test_whatever_has_a_discriminator_gives_features_of_each_image_by_itself(name: str) -> None:
    method = untrained(name)
    if last_features(method, torch.zeros(2, 1, 32, 32)) is None:
        assert not {"discriminator", "critic"} & dict(method.named_children()).keys()
        return
    x = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with eval_mode(method):
        together = last_features(method, x)
        alone = torch.cat([last_features(method, image[None]) for image in x])
    assert together.dim() == 2
    assert len(together) == 6
    assert together.std(dim=0).max() > 0
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["egbad", "contrastive-ganomaly", "skip-ganomaly", "f-anogan"])
def test_the_discriminator_is_shown_what_its_method_shows_it(name: str) -> None:
    method = untrained(name)
    discriminator = getattr(method, "critic", None) or method.discriminator
    x = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    method.fit_scales(x)  # a scale that is not the image's own
    seen: list[tuple[torch.Tensor, ...]] = []
    discriminator.register_forward_pre_hook(lambda _, arguments: seen.append(arguments))
    with eval_mode(method):
        method.predict(x)
        of_method = seen[0]
        seen.clear()
        last_features(method, x)
    torch.testing.assert_close(seen[0], of_method)


def test_features_of_images_of_any_size_are_as_many() -> None:
    method = untrained("patch-ganomaly")
    with eval_mode(method):
        shapes = {last_features(method, torch.zeros(1, 1, *size)).shape for size in ((64, 96), (112, 80))}
    assert len(shapes) == 1


def test_the_embedding_repeats_and_keeps_groups_apart() -> None:
    features = np.random.default_rng(0).normal(size=(40, 60)).astype(np.float32)
    features[20:] += 10
    components = principal_components(features)
    assert components is not None
    assert components.shape == (40, 40)
    places = embedded(components)
    np.testing.assert_array_equal(places, embedded(components))
    one, other = places[:20], places[20:]
    widest = max(np.linalg.norm(group - group.mean(axis=0), axis=1).max() for group in (one, other))
    assert np.linalg.norm(one.mean(axis=0) - other.mean(axis=0)) > widest


@pytest.mark.parametrize(
    "features",
    [np.ones((20, 4), np.float32), np.full((20, 4), np.nan, np.float32), np.eye(3, dtype=np.float32)],
    ids=["all alike", "not finite", "too few"],
)
def test_features_that_tell_nothing_make_no_picture(features: np.ndarray) -> None:
    assert principal_components(features) is None
