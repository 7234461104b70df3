"""A program reads formats of its own, as the guide shows it."""

import re
from pathlib import Path

import numpy as np
import pytest

from ganomaly.data import FormatFamily, open_training_images, register_reader
from ganomaly.data.readers import registry
from ganomaly.data.readers.tiff import TIFF, TiffImage
from ganomaly.errors import ImageError, UsageError

GUIDE = Path(__file__).parents[3] / "docs" / "adding-a-format.md"


@pytest.fixture(autouse=True)
def families_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry._REGISTRY, "families", registry.format_families())


def test_the_example_of_the_guide_reads_its_files(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    example, _, _ = blocks[0].partition("GANomalyDetector().fit")
    exec(compile(example, str(GUIDE), "exec"), {})
    pixels = np.arange(12, dtype="<u2").reshape(3, 4)
    content = b"RAW0" + np.array([3, 4], "<u4").tobytes() + pixels.tobytes()
    (tmp_path / "a.raw").write_bytes(content)
    (tmp_path / "b.raw").write_bytes(content[:-3])
    images = open_training_images(tmp_path)
    assert len(images) == 2
    np.testing.assert_array_equal(images.read(0)[..., 0], pixels)
    with pytest.raises(ImageError, match=r"^b\.raw is truncated: some of its rows are missing$"):
        images.read(1)


def test_a_family_of_the_same_names_replaces_the_earlier_one() -> None:
    before = registry.format_families()
    register_reader(FormatFamily(TIFF.names, (".tiff",), TIFF.signature, TiffImage))
    assert len(registry.format_families()) == len(before)
    assert ".tif" not in registry.image_suffixes()


@pytest.mark.parametrize("suffix", ["raw", ".RAW"])
def test_a_suffix_that_would_never_match_is_refused(suffix: str) -> None:
    with pytest.raises(UsageError, match="is not in lower case with a dot"):
        register_reader(FormatFamily(("RAW",), (suffix,), re.compile(rb"RAW0"), TiffImage))
    with pytest.raises(UsageError, match="needs a name"):
        register_reader(FormatFamily((), (".raw",), re.compile(rb"RAW0"), TiffImage))
