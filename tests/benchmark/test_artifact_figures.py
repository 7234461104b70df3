"""Artifacts hold the right images of each class, are read in every version, and are drawn again without training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from sklearn.metrics import roc_auc_score

from ganomaly.benchmark import (
    BenchmarkDataset,
    Budget,
    Cell,
    MethodSpec,
    RowFile,
    collect_artifacts,
    result_table,
    run_cell,
    run_grid,
    write_figures,
)
from ganomaly.benchmark.artifact_figures import embedding, histogram, reconstructions, write_artifact_figures
from ganomaly.benchmark.artifacts import (
    ARTIFACTS,
    Artifacts,
    Embedding,
    Reconstruction,
    read_artifacts,
    write_artifacts,
)
from ganomaly.benchmark.clean import score_test_images
from ganomaly.benchmark.collect_artifacts import ArtifactCollector
from ganomaly.benchmark.embedding import pooled_features
from ganomaly.benchmark.sampling import RandomSample
from ganomaly.config import Preprocessing
from ganomaly.data import open_images
from ganomaly.errors import DataError
from ganomaly.methods import Method
from ganomaly.outputs.report.figures import ANOMALOUS, NORMAL
from ganomaly.prediction import Prediction
from ganomaly.prediction.pytorch import predict_dataset
from images import textures
from shell import ganomaly

SMALL = "ganomaly[nz=4;ngf=4;ndf=4]"
WITHOUT_DISCRIMINATOR = "vae[nz=4;ngf=4]"
FIGURES = ("histogram", "embedding", "reconstructions")


def cell(folder: Path, method: str = SMALL, **more) -> Cell:
    values = {"budget": Budget(epochs=1), "precision": "fp32", **more}
    return Cell(BenchmarkDataset("mnist", folder), ("1",), MethodSpec.parse(method), 0, **values)


def handmade_artifacts() -> Artifacts:
    """Normal: scores about 1, positions on the left, dark images; anomalous: about 5, on the right, bright images."""
    is_anomalous = np.array([True, False, True, False])
    positions = np.where(is_anomalous[:, None], 7.0, -7.0) + np.arange(4)[:, None] / [10, 5]
    samples = [
        Reconstruction(
            np.full((4, 4, 1), 200 if anomalous else 20, np.uint8),
            np.full((4, 4, 1), 210 if anomalous else 30, np.uint8),
            bool(anomalous),
        )
        for anomalous in is_anomalous
    ]
    features = np.zeros((4, 2), np.float32)
    embedded = Embedding(features, positions.astype(np.float32), is_anomalous)
    return Artifacts(np.where(is_anomalous, 5.0, 1.0) + np.arange(4) / 10, is_anomalous, embedded, samples)


def names(paths: list[Path]) -> set[str]:
    return {path.name for path in paths}


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for name in FIGURES for path in out.glob(f"{name}_*.png")}


def gray_levels(figure: Figure) -> list[list[list[int]]]:
    """For each block the gray levels in its row of images and in its row of reconstructions."""
    blocks = []
    for block in figure.subfigs:
        levels = [axes.images[0].get_array()[0, 0] if axes.images else None for axes in block.get_axes()]
        half = len(levels) // 2
        blocks.append(
            [[int(level) for level in row if level is not None] for row in (levels[:half], levels[half:])]
        )
    return blocks


def test_the_scores_in_artifacts_give_the_auroc_of_the_row(digits: Path, tmp_path: Path) -> None:
    row = run_cell(cell(digits), out=tmp_path)[0]
    artifacts = read_artifacts(tmp_path / row[ARTIFACTS])
    assert artifacts is not None
    assert row["auroc"] != pytest.approx(0.5, abs=0.01)
    assert roc_auc_score(artifacts.is_anomalous, artifacts.scores) == pytest.approx(row["auroc"])
    n_anomalous = artifacts.is_anomalous.sum()
    assert (n_anomalous, len(artifacts.scores) - n_anomalous) == (row["n_anomalous"], row["n_normal"])


def test_sample_images_have_the_right_labels(digits: Path, tmp_path: Path) -> None:
    artifacts = read_artifacts(tmp_path / run_cell(cell(digits), out=tmp_path)[0][ARTIFACTS])
    assert artifacts is not None
    assert [sample.is_anomalous for sample in artifacts.reconstructions] == [False] * 8 + [True] * 8
    for sample in artifacts.reconstructions:
        assert (sample.image.max() > 200) == sample.is_anomalous  # the blob is bright
        assert sample.reconstruction.shape == sample.image.shape == (32, 32, 1)
        assert sample.reconstruction.max() < 200  # a network that saw one epoch draws no blob


def test_each_class_of_a_group_has_its_own_artifacts(
    untrained: Callable[[str], Method], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect_artifacts, "EMBEDDED_IMAGES", 6)
    monkeypatch.setattr(collect_artifacts, "RECONSTRUCTED_IMAGES", 2)
    images = textures(40)
    images[20:30], images[30:] = 0, 255
    # 20 normal images, 10 of the kind "black", 10 of the kind "white"; 16 normal ones cannot be read
    normal, unlabelled, anomalous = np.zeros(20), np.full(10, np.nan), np.ones(10)
    labels = {
        "black": np.concatenate([normal, anomalous, unlabelled]),
        "white": np.concatenate([normal, unlabelled, anomalous]),
        "overall": np.concatenate([normal, anomalous, anomalous]),
    }
    scores = np.arange(40.0)
    scores[:16] = np.nan
    method = untrained("ganomaly")
    collector = ArtifactCollector(labels, seed=0)
    for prediction in predict_dataset(
        method,
        Preprocessing(image_size=32, channels=1),
        open_images(images),
        details=True,
        features=lambda x: pooled_features(method, x),
    ):
        if prediction.index < 16:
            collector.add(Prediction(prediction.index, prediction.path, error="it cannot be read"))
        else:
            collector.add(prediction)
    artifacts = collector.artifacts(scores)
    assert artifacts["black"].scores.tolist() == [*range(16, 30)]
    assert artifacts["white"].scores.tolist() == [*range(16, 20), *range(30, 40)]
    assert artifacts["overall"].scores.tolist() == [*range(16, 40)]
    for name, level in (("black", 0), ("white", 255)):
        assert artifacts[name].scores[artifacts[name].is_anomalous].min() >= 20
        embedded = artifacts[name].embedding
        assert embedded is not None
        assert embedded.is_anomalous.tolist() == [False] * 4 + [True] * 6
        spread = [
            np.ptp(embedded.features[embedded.is_anomalous == label], axis=0).max() for label in (False, True)
        ]
        assert spread[1] < 1e-4 * spread[0]  # the anomalous images are all the same, the normal ones are not
        samples = artifacts[name].reconstructions
        assert [sample.is_anomalous for sample in samples] == [False, False, True, True]
        assert [np.unique(sample.image).tolist() == [level] for sample in samples] == [
            *(False, False, True, True)
        ]


def test_collecting_artifacts_does_not_change_a_score(untrained: Callable[[str], Method]) -> None:
    images, labels = textures(20), {"x": np.array([0.0, 1.0] * 10)}
    method, preprocessing = untrained("ganomaly"), Preprocessing(image_size=32, channels=1)
    alone = score_test_images(method, preprocessing, open_images(images)).scores
    collector = ArtifactCollector(labels, seed=0)
    np.testing.assert_array_equal(
        score_test_images(method, preprocessing, open_images(images), collector).scores, alone
    )
    assert collector.artifacts(alone)["x"].embedding is not None


def test_a_random_sample_is_the_start_of_a_permutation_of_the_members() -> None:
    members = np.arange(100, 150)
    permutation = np.random.default_rng(3).permutation(members)
    sample: RandomSample[str] = RandomSample(members, 7, np.random.default_rng(3))
    for index in range(200):
        if index not in permutation[:2]:  # two that are never offered, as images that cannot be read
            sample.offer(index, f"item {index}")
    assert sample.items() == [f"item {index}" for index in sorted(permutation[2:9])]


def test_figures_of_artifacts_tell_normal_from_anomalous_images() -> None:
    artifacts = handmade_artifacts()
    [axes] = histogram(artifacts, "").axes
    normal, anomalous = (patch for patch in axes.patches if not patch.get_fill())
    for patch, name, colour, least in ((normal, "Normal", NORMAL, 1), (anomalous, "Anomalous", ANOMALOUS, 5)):
        assert isinstance(patch, StepPatch)
        assert (patch.get_label(), to_hex(patch.get_edgecolor()).upper()) == (name, colour)
        values, edges, _ = patch.get_data()
        filled = edges[1:][np.nan_to_num(values) > 0]
        assert ((least < filled) & (filled < least + 0.5)).all()
    assert artifacts.embedding is not None
    [axes] = embedding(artifacts.embedding, "").axes
    normal_points, anomalous_points = axes.collections
    assert (normal_points.get_label(), anomalous_points.get_label()) == ("Normal (2)", "Anomalous (2)")
    assert (normal_points.get_offsets()[:, 0] < 0).all()
    assert (anomalous_points.get_offsets()[:, 0] > 0).all()
    np.testing.assert_allclose(normal_points.get_facecolor()[0, :3], to_rgb(NORMAL))
    np.testing.assert_allclose(anomalous_points.get_facecolor()[0, :3], to_rgb(ANOMALOUS))
    figure = reconstructions(artifacts.reconstructions, "")
    assert [block.get_suptitle() for block in figure.subfigs] == ["Normal", "Anomalous"]
    assert gray_levels(figure) == [
        [[20, 20], [30, 30]],
        [[200, 200], [210, 210]],
    ]  # images over reconstructions


def test_figures_have_titles_and_axis_labels() -> None:
    artifacts = handmade_artifacts()
    assert artifacts.embedding is not None
    for figure in (histogram(artifacts, "a title"), embedding(artifacts.embedding, "a title")):
        [axes] = figure.axes
        assert axes.get_title(loc="left") == "a title"
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        assert figure.legends
    assert reconstructions(artifacts.reconstructions, "a title").get_suptitle() == "a title"


def assert_same_artifacts(artifacts: Artifacts | None, expected: Artifacts) -> None:
    assert artifacts is not None
    assert artifacts.embedding is not None
    assert expected.embedding is not None
    np.testing.assert_array_equal(artifacts.scores, expected.scores)
    np.testing.assert_array_equal(artifacts.is_anomalous, expected.is_anomalous)
    np.testing.assert_array_equal(artifacts.embedding.positions, expected.embedding.positions)
    np.testing.assert_array_equal(artifacts.embedding.is_anomalous, expected.embedding.is_anomalous)
    assert gray_levels(reconstructions(artifacts.reconstructions, "")) == gray_levels(
        reconstructions(expected.reconstructions, "")
    )


def test_artifacts_are_read_as_they_were_written(tmp_path: Path) -> None:
    artifacts = handmade_artifacts()
    write_artifacts(artifacts, tmp_path / "new" / "x.npz")
    assert_same_artifacts(read_artifacts(tmp_path / "new" / "x.npz"), artifacts)
    assert read_artifacts(tmp_path / "missing.npz") is None


def write_as_earlier_versions_did(artifacts: Artifacts, folder: Path, row: dict[str, Any]) -> None:
    """A row with its artifacts, under the names that columns, folders and arrays had then."""
    write_artifacts(artifacts, folder / "new.npz")
    with np.load(folder / "new.npz") as file:
        arrays = dict(file)
    (folder / "new.npz").unlink()
    arrays["places"] = arrays.pop("positions")
    arrays["shown_is_anomalous"] = arrays.pop("reconstructed_is_anomalous")
    (folder / "kept").mkdir()
    np.savez(folder / "kept" / "0123456789abcdef.npz", **arrays)
    (folder / "rows.jsonl").write_text(json.dumps({**row, "kept": "0123456789abcdef.npz"}) + "\n")


def test_rows_and_artifacts_of_earlier_versions_are_read_and_drawn(digits: Path, tmp_path: Path) -> None:
    artifacts = handmade_artifacts()
    row = {"anomaly_class": "1", **cell(digits).identity(), "precision": "fp32", "auroc": 0.5}
    write_as_earlier_versions_did(artifacts, tmp_path, row)
    before = (tmp_path / "rows.jsonl").read_bytes()
    rows = run_grid([cell(digits)], RowFile(tmp_path))
    assert rows == [{**row, ARTIFACTS: "kept/0123456789abcdef.npz"}]
    assert_same_artifacts(read_artifacts(tmp_path / rows[0][ARTIFACTS]), artifacts)
    assert names(write_artifact_figures(rows, tmp_path)) == {f"{name}_{SMALL}_1.png" for name in FIGURES}
    assert (tmp_path / "rows.jsonl").read_bytes() == before


def test_a_file_that_holds_no_artifacts_is_refused_with_a_remedy(tmp_path: Path) -> None:
    pickled = np.array([{"a": "pickle"}], dtype=object)
    with (tmp_path / "code.npz").open("wb") as file:
        np.savez(file, scores=pickled, is_anomalous=pickled)
    (tmp_path / "torn.npz").write_bytes((tmp_path / "code.npz").read_bytes()[:100])
    (tmp_path / "text.npz").write_text("nonsense")
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    for name in ("code", "torn", "text", "other"):
        with pytest.raises(DataError, match=rf"cannot read .*{name}\.npz.*remove it"):
            read_artifacts(tmp_path / f"{name}.npz")


def test_a_second_run_draws_the_same_figures_without_training(digits: Path, tmp_path: Path) -> None:
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


def test_rows_without_artifacts_give_the_other_figures(digits: Path, tmp_path: Path) -> None:
    rows = run_grid([cell(digits)], RowFile(tmp_path))
    for path in (tmp_path / ARTIFACTS).iterdir():
        path.unlink()
    without = [{name: value for name, value in rows[0].items() if name != ARTIFACTS}]
    for variant in (rows, without):
        assert names(write_figures(result_table(variant), variant, tmp_path)) == {"auroc.png", "run_time.png"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(without[0]) + "\n")
    assert run_grid([cell(digits)], RowFile(tmp_path)) == without


def test_the_published_protocol_leaves_no_artifacts(digits: Path, tmp_path: Path) -> None:
    rows = run_grid([cell(digits, protocol="published")], RowFile(tmp_path))
    assert ARTIFACTS not in rows[0]
    assert not (tmp_path / ARTIFACTS).exists()


def test_only_the_first_seed_is_drawn(tmp_path: Path) -> None:
    write_artifacts(handmade_artifacts(), tmp_path / "first.npz")
    (tmp_path / "second.npz").write_text("would be refused if it were read")
    rows = [
        {"method": SMALL, "anomaly_class": "a/b c", "seed": seed, ARTIFACTS: f"{name}.npz"}
        for seed, name in ((3, "first"), (4, "second"))
    ]
    paths = write_artifact_figures(rows, tmp_path)
    assert names(paths) == {f"{name}_{SMALL}_a%2Fb c.png" for name in FIGURES}
    assert all(path.parent == tmp_path and path.exists() for path in paths)


def test_long_class_names_give_different_file_names(tmp_path: Path) -> None:
    write_artifacts(handmade_artifacts(), tmp_path / "x.npz")
    kinds = ["é" * 60 + end for end in "ab"]
    rows = [{"method": SMALL, "anomaly_class": kind, "seed": 0, ARTIFACTS: "x.npz"} for kind in kinds]
    paths = write_artifact_figures(rows, tmp_path)
    assert len({path.name for path in paths if path.exists()}) == 2 * len(FIGURES)
