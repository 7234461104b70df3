"""Coverage-guided fuzzing, by atheris, of the parsers that are this package's own.

`python fuzz_parsers.py TARGET CORPUS [options of libFuzzer]`, such as `-runs=100000 -seed=1`. CORPUS is a folder;
what the target begins with is written to it. The process ends with an error, and prints the input, at the first
promise that is broken: an exception that is not this package's, a message that is not a sentence, other pixels than a
strict decoder's, 30 seconds, or 2 GB.
"""

import json
import os
import random
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))

with atheris.instrument_imports(include=["ganomaly"]):
    from ganomaly import output_checks
    from ganomaly.benchmark.cells import BenchmarkDataset, Cell
    from ganomaly.benchmark.method_spec import MethodSpec
    from ganomaly.benchmark.rows import RowFile
    from ganomaly.errors import GANomalyError
    from ganomaly.prediction.header import GraphHeader, ModelHeader, read_header, read_provenance
    from ganomaly.prediction.model_file import load_model
    from ganomaly.training.checkpoint import recorded_data

from faults import fuzz_images, strict_png

MODELS = Path(__file__).parents[1] / "prediction" / "models"
MAX_PIXELS_OF_A_CASE = 10_000  # the strict decoder is slow
CELL = {"method": "vae", "dataset": "mnist", "seed": 0, "protocol": "clean", "anomaly_class": "1"}


class BrokenPromiseError(Exception):
    """Something else than a result or a sentence."""


def in_words(function: Callable[[], object]) -> None:
    """Call a function that may refuse its input in a sentence."""
    try:
        function()
    except GANomalyError as error:
        sentence = str(error)
        if not sentence.strip() or "\n" in sentence or len(sentence) > 1000:
            raise BrokenPromiseError(f"not a sentence: {sentence[:2000]!r}") from None


def is_small_png(content: bytes) -> bool:
    width, height = struct.unpack(">II", content[16:24].ljust(8, b"\0"))
    return width * height <= MAX_PIXELS_OF_A_CASE


def check_png(content: bytes) -> None:
    """Bytes as they come."""
    if is_small_png(content):
        fuzz_images.check_image("png", content)


def check_png_rows(content: bytes) -> None:
    """Header and rows as they come, in a file whose checksums are right: 13 bytes, then what is compressed."""
    compressed = zlib.compress(content[13:])
    parts = [(b"IHDR", content[:13]), (b"PLTE", bytes(range(48))), (b"IDAT", compressed), (b"IEND", b"")]
    if content[9:10] in (b"\0", b"\4"):  # gray has no palette
        del parts[1]
    check_png(b"\x89PNG\r\n\x1a\n" + b"".join(fuzz_images.png_chunk(*part) for part in parts))


def check_tiff(content: bytes) -> None:
    fuzz_images.check_image("tiff", content)


def check_header(content: bytes) -> None:
    """The JSON of a model file and of a graph."""
    metadata = {"model": content.decode(errors="replace"), "provenance": content.decode(errors="replace")}
    path = Path("m.safetensors")
    in_words(lambda: read_header(path, metadata, ModelHeader, max_size=2**20))
    in_words(lambda: read_header(path, metadata, GraphHeader, max_size=2**20))
    in_words(lambda: read_provenance(path, metadata))


def check_model(content: bytes) -> None:
    """A file as it comes, read as a model and as a checkpoint."""
    path = SCRATCH / "m.safetensors"
    path.write_bytes(content)
    in_words(lambda: load_model(path))
    recorded_data(path)


def check_method(content: bytes) -> None:
    """A method with options, as written on the command line."""
    in_words(lambda: MethodSpec.parse(content.decode(errors="replace")))


def check_rows(content: bytes) -> None:
    """The rows of a benchmark that goes on."""
    (SCRATCH / "rows.jsonl").write_bytes(content)
    cell = Cell(BenchmarkDataset("mnist", SCRATCH), ("1",), MethodSpec.parse("vae"), 0)
    rows = RowFile(SCRATCH)
    rows.has(cell)
    rows.select(cell)


def check_outputs(content: bytes) -> None:
    """Whether an existing file may be replaced."""
    for kind in vars(output_checks).values():
        if isinstance(kind, output_checks.OutputKind) and kind is not output_checks.BENCHMARK_FILE:
            path = SCRATCH / f"x{kind.suffixes[0]}"
            path.write_bytes(content)
            in_words(lambda path=path, kind=kind: output_checks.check_replaceable(path, kind))


class Target(NamedTuple):
    """A function to fuzz, and the inputs it begins with."""

    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    max_length: int


def images(name: str) -> list[bytes]:
    return [content for seed, content in fuzz_images.image_seeds().items() if seed.startswith(name)]


def png_rows() -> list[bytes]:
    seeds = []
    for content in images("png"):
        parts = strict_png.chunks(content)
        data = b"".join(data for kind, data in parts if kind == b"IDAT")
        seeds.append(parts[0][1] + zlib.decompress(data))
    return seeds


def descriptions() -> list[bytes]:
    from model_files import read_model_file

    metadata = [read_model_file(path)[0] for path in sorted(MODELS.glob("*.safetensors"))]
    graph: Mapping[str, Any] = {
        "threshold": 0.1, "calibration_scores": [0.1, 0.2], "map_medians": [], "map_maxima": [], "checksum": "sha256",
    }  # fmt: skip
    models = [texts["model"].encode() for texts in metadata]
    graphs = [json.dumps(json.loads(text) | graph).encode() for text in models]
    return [*models, *graphs, *(texts["provenance"].encode() for texts in metadata), b"[" * 4000]


def model_files() -> list[bytes]:
    """The beginnings of model files, which say what is in them, and files of one tensor."""
    import torch
    from safetensors.torch import save

    small = save({"calibration/scores": torch.zeros(2)}, {"format": "ganomaly-model", "format_version": "2"})
    return [small, *(path.read_bytes()[:8000] for path in sorted(MODELS.glob("*.safetensors")))]


def rows() -> list[bytes]:
    row = json.dumps(CELL | {"auroc": 0.5, "precision": "fp32", "epochs_asked": None}).encode()
    nested = b"[" * 1999, b'{"anomaly_class": [], "seed": {}}\n'
    return [row + b"\n", row + b"\n" + row[:20], b'{"error": "x", "anomaly_class": "1"}\n', *nested]


def written_files() -> list[bytes]:
    return [
        b"path,score,normalized_score,\r\n", b'{"path": "a", "normalized_score": 1}\n', b"PAR1normalized_score",
        b'<meta name="generator" content="ganomaly 0">', b'{"image_auroc": 1}', b"ganomaly-graph",
        b"\x20\0\0\0\0\0\0\0" + b'{"__metadata__":{"format":"ganomaly-model"}}',
        b"\x89PNG\r\n\x1a\n\0\0\0\x11tEXtSoftware\0ganomaly",
    ]  # fmt: skip


TARGETS = {
    "png": Target(check_png, lambda: images("png"), 4096),
    "png_rows": Target(check_png_rows, png_rows, 4096),
    "tiff": Target(check_tiff, lambda: images("tiff"), 4096),
    "header": Target(check_header, descriptions, 4096),
    "model": Target(check_model, model_files, 8192),
    "method": Target(
        check_method, lambda: [b"vae", b"ganomaly[nz=50;contextual_weight=0]", b"patches[nz=4]"], 200
    ),
    "rows": Target(check_rows, rows, 2000),
    "outputs": Target(check_outputs, written_files, 2000),
}


def main(target: Target, corpus: Path, options: list[str]) -> None:
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed{number}").write_bytes(seed)
    limits = [f"-max_len={target.max_length}", "-timeout=30", "-rss_limit_mb=2000", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, *options, str(corpus)], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    random.seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        SCRATCH = Path(scratch)
        main(TARGETS[sys.argv[1]], Path(sys.argv[2]), sys.argv[3:])
