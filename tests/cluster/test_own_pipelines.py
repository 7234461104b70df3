"""A user's own `map_batches`, as docs/scale.md shows it."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ganomaly import GANomalyDetector
from images import textures, write_images

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def test_the_examples_of_the_guide_run_and_agree(model_path: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "parts", textures(12, seed=2))
    (tmp_path / "part.safetensors").write_bytes(model_path.read_bytes())
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        # workers have the current folder of whoever started Ray
        absolute = re.sub(r'"(part\.safetensors|parts|verdicts|scores)"', rf'"{tmp_path}/\1"', example)
        exec(compile(absolute, str(PAGE), "exec"), {})
    expected = GANomalyDetector.load(model_path).anomaly_score(sorted(folder.iterdir()))
    for name in ("verdicts", "scores"):
        table = pq.read_table(tmp_path / name).sort_by("path")
        assert table["score"].to_pylist() == pytest.approx(expected, rel=1e-6)
