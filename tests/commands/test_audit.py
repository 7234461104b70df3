"""`ganomaly evaluate --audit`: figures in JSON, table and report."""

import json

from shell import ganomaly

FIGURES = (
    "image_auroc",
    "painted_out_auroc",
    "defect_auroc",
    "defect_pairs",
    "control_auroc",
    "control_pairs",
)


def test_evaluate_audits_on_request(model_path, labelled_folder, tmp_path):
    plain, audited, report = tmp_path / "plain.json", tmp_path / "audited.json", tmp_path / "report.html"
    assert ganomaly("evaluate", model_path, labelled_folder, "--json", plain).returncode == 0
    done = ganomaly("evaluate", model_path, labelled_folder, "--audit", "--json", audited, "--report", report)
    assert done.returncode == 0, done.stderr

    figures = json.loads(audited.read_text())
    audit = figures.pop("audit")
    assert figures == json.loads(plain.read_text())
    for part in (audit, audit["per_kind"]["blob"]):
        assert part["n"] == part["n_control"] == 12
        assert all(0 <= part[name] <= 1 for name in FIGURES)
    assert audit["n_normal"] == 12
    assert audit["is_conclusive"] in (True, False)
    assert "with and without the defects" in done.stdout
    assert audit["conclusion"] in done.stderr
    page = report.read_text()
    assert page.count("with the defect</figcaption>") == 4


def test_an_audit_without_masks_is_null_and_says_so(model_path, labelled_folder, tmp_path):
    for mask in (labelled_folder / "ground_truth" / "blob").iterdir():
        mask.unlink()
    done = ganomaly("evaluate", model_path, labelled_folder, "--audit", "--json", tmp_path / "audit.json")
    assert done.returncode == 0, done.stderr
    audit = json.loads((tmp_path / "audit.json").read_text())["audit"]
    assert [audit[name] for name in FIGURES] == [None] * len(FIGURES)
    assert audit["n_without_mask"] == 12
    assert "Nothing could be audited" in done.stderr


def test_an_exported_model_is_audited_alike(model_path, labelled_folder, tmp_path):
    graph = tmp_path / "parts.onnx"
    done = ganomaly("export", model_path, "--format", "onnx", "--out", graph)
    assert done.returncode == 0, done.stderr
    audits = []
    for number, model in enumerate((model_path, graph)):
        done = ganomaly("evaluate", model, labelled_folder, "--audit", "--json", tmp_path / f"{number}.json")
        assert done.returncode == 0, done.stderr
        audits.append(json.loads((tmp_path / f"{number}.json").read_text())["audit"])
    assert [audits[0][name] for name in FIGURES] == [audits[1][name] for name in FIGURES]
