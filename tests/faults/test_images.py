"""Damaged images and parquet files: refused in a sentence, or decoded to the pixels of a second, strict decoder."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faults import fuzz_images, strict_png
from faults.harness import SEED, report, tries
from ganomaly.data import open_images
from ganomaly.data.readers.decoding import decode_image
from ganomaly.prediction import load_predictor

IMAGES, PARQUET_FILES = 200, 20  # for each try: 10,000 and 1,000 where other tests make 50
CASES_PER_PROCESS = 2000
MAX_BYTES = 2e9


@pytest.mark.parametrize(("kind", "number"), [("images", IMAGES), ("parquet", PARQUET_FILES)])
def test_damaged_files_are_refused_or_read_as_a_second_decoder_does(kind: str, number: int) -> None:
    total = number * tries(2)
    script = Path(fuzz_images.__file__)
    for first in range(0, total, CASES_PER_PROCESS):
        count = min(CASES_PER_PROCESS, total - first)
        arguments = [sys.executable, str(script), kind, str(first), str(count), str(SEED)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        assert "Traceback" not in done.stderr
        counts = json.loads(done.stdout)
        report(f"fuzzed {kind}", **counts)
        assert counts["peak"] < MAX_BYTES


@pytest.mark.parametrize("name", [name for name in fuzz_images.image_seeds() if name.startswith("png")])
def test_the_second_decoder_reads_undamaged_images_as_the_package_does(name: str) -> None:
    content = fuzz_images.image_seeds()[name]
    np.testing.assert_array_equal(strict_png.decode(content), decode_image(content))


def test_a_folder_of_damaged_images_has_a_row_for_each(tmp_path: Path, model: Path) -> None:
    import random

    seeds = fuzz_images.image_seeds()
    number = 20 * tries(4)
    for index in range(number):
        random_ = random.Random(f"{SEED} folder {index}")
        name = random_.choice(list(seeds))
        content = fuzz_images.damaged(random_, seeds[name], list(seeds.values()))
        (tmp_path / f"{index}.{name.split()[0]}").write_bytes(content)
    predictor = load_predictor(model)
    predictions = list(predictor.predict(open_images(tmp_path), details=True))
    assert [prediction.index for prediction in predictions] == list(range(number))
    assert all((prediction.error is None) != (prediction.score is None) for prediction in predictions)
    report("folder of damaged images", tries=number, scored=sum(p.error is None for p in predictions))
