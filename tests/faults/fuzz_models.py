"""Damages and edits model files and graphs, loads them, and compares their predictions with those of the original.

`python fuzz_models.py models|graphs FOLDER FIRST COUNT SEED` prints counts as JSON, and the cases that broke a
promise. FOLDER holds undamaged files; a case follows from them, its number and the seed alone.

A damaged file has the checksum of the original, and is refused or predicts the same. An edited one has a checksum
that matches: it is refused, or it is another model that predicts something in the time and memory of any model.
"""

import faulthandler
import html
import json
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from faults.process_memory import peak_memory
from ganomaly.data import open_images
from ganomaly.errors import GANomalyError, ModelFileError
from ganomaly.prediction import Prediction, Predictor, describe_model, load_predictor
from ganomaly.prediction.model import Model
from images import textures
from model_files import (
    read_model_file,
    with_onnx_checksum,
    with_openvino_checksum,
    write_graph,
    write_model_file,
)

HANG_SECONDS = 30
MAX_MORE_BYTES = 2 * 10**9  # of address space, beside what this process takes before the first case
CHECKSUM_LENGTH = 78
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 0.5, -0.0, 1e308, 1e30, 5e-324, 2**31, 2**63, 2**70, 10**400,
    float("nan"), float("inf"), "", "x", "1", "x" * 5000, "\0", "\x1b[2J", "é", [], {}, [[]], {"a": {"b": [1]}},
)  # fmt: skip
ODD_TEXTS = ("", "null", "{}", "[]", "[" * 5000, '{"a":' * 5000, "9" * 5000, "NaN", "\ud7ff", "x" * 2_000_000)


class BrokenPromiseError(Exception):
    """A file was neither refused in a sentence nor predicted as it must."""


# --- damage: the checksum is not computed again ----------------------------------------------------------


def damaged(random_: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """The content after one to three accidents."""
    for _ in range(random_.choice((1, 1, 1, 2, 3))):
        content = random_.choice(ACCIDENTS)(random_, content, others)
    return content


def _flip_bits(random_: random.Random, content: bytes, _: list[bytes]) -> bytes:
    changed = bytearray(content)
    # the first bytes and the last are what a reader looks at first
    ranges = ((0, len(content)), (0, min(4096, len(content))), (max(0, len(content) - 100), len(content)))
    first, end = random_.choice(ranges)
    for _ in range(random_.choice((1, 1, 1, 2, 8, 64))):
        if end > first:
            changed[random_.randrange(first, end)] ^= 1 << random_.randrange(8)
    return bytes(changed)


def _truncate(random_: random.Random, content: bytes, _: list[bytes]) -> bytes:
    return content[
        : random_.choice((random_.randrange(len(content) + 1), len(content) - CHECKSUM_LENGTH, -1))
    ]


def _lengthen(random_: random.Random, content: bytes, _: list[bytes]) -> bytes:
    return content + random_.choice((b"\0", b"\xff" * 9, random_.randbytes(100), content[-1000:]))


def _overwrite(random_: random.Random, content: bytes, _: list[bytes]) -> bytes:
    start, n = random_.randrange(len(content) + 1), random_.choice((1, 8, 512, 4096))
    block = random_.choice((bytes(n), b"\xff" * n, random_.randbytes(n)))
    return content[:start] + block + content[start + n :]


def _splice(random_: random.Random, content: bytes, others: list[bytes]) -> bytes:
    other = random_.choice(others)
    position = random_.randrange(min(len(content), len(other)) + 1)
    return content[:position] + other[position:]


def _remove(random_: random.Random, content: bytes, _: list[bytes]) -> bytes:
    start = random_.randrange(len(content) + 1)
    return content[:start] + content[start + random_.choice((1, 4, 512, 4096)) :]


def _change_length_of_header(random_: random.Random, content: bytes, _: list[bytes]) -> bytes:
    length = random_.choice((0, 1, 2**31, 2**63, 2**64 - 1, int.from_bytes(content[:8], "little") ^ 1))
    return length.to_bytes(8, "little") + content[8:]


Accident = Callable[[random.Random, bytes, list[bytes]], bytes]
ACCIDENTS: tuple[Accident, ...] = (
    _flip_bits, _flip_bits, _flip_bits, _truncate, _lengthen, _overwrite, _splice, _remove, _change_length_of_header,
)  # fmt: skip


# --- edits: the checksum matches -------------------------------------------------------------------------


def edited_json(random_: random.Random, text: str) -> str:
    """JSON with another value, key or character."""
    if random_.random() < 0.15:
        return random_.choice(ODD_TEXTS)
    if random_.random() < 0.15:
        position = random_.randrange(len(text) + 1)
        return text[:position] + random_.choice(('"', "{", "]", ",", "0", "-", "e9")) + text[position + 1 :]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(_edited_value(random_, value))


def _edited_value(random_: random.Random, value: Any) -> Any:
    """The value with one change somewhere in it."""
    if isinstance(value, dict) and value and random_.random() < 0.9:
        return _edited_object(random_, value)
    if isinstance(value, list) and value and random_.random() < 0.8:
        position = random_.randrange(len(value))
        replaced = [*value[:position], _edited_value(random_, value[position]), *value[position + 1 :]]
        return random_.choice((replaced, value[:position], value * 2))
    if isinstance(value, int | float) and not isinstance(value, bool) and random_.random() < 0.4:
        return random_.choice(
            (value + 1, value - 1, -value, value * 2, value / 2, str(value), [value], float(value))
        )
    return random_.choice(ODD_VALUES)


def _edited_object(random_: random.Random, value: dict[str, Any]) -> dict[str, Any]:
    key, change = random_.choice(list(value)), random_.random()
    if change < 0.1:
        return {name: inner for name, inner in value.items() if name != key}
    if change < 0.15:
        return value | {random_.choice(("x", "", "nz", "a" * 5000)): random_.choice(ODD_VALUES)}
    if change < 0.2:
        return {f"{name}x" if name == key else name: inner for name, inner in value.items()}
    return value | {key: _edited_value(random_, value[key])}


def edited_metadata(random_: random.Random, metadata: dict[str, str]) -> dict[str, str]:
    """Metadata with another text, or one less, or one more."""
    key = random_.choice(list(metadata))
    change = random_.random()
    if change < 0.05:
        return {name: text for name, text in metadata.items() if name != key}
    if change < 0.1:
        return metadata | {random_.choice(("x", "checksum2", "")): random_.choice(ODD_TEXTS)}
    if change < 0.3:
        return metadata | {
            "format_version": random_.choice(("0", "1", "2", "3", "4", "-1", "²", " 1", "1.0", "9" * 5000))
        }
    key = random_.choice(("model", "model", "provenance", key))
    return metadata | {key: edited_json(random_, metadata.get(key, "{}"))}


def edited_tensors(random_: random.Random, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of which one has another type, shape, name or numbers, is missing, or is one more."""
    if not tensors:
        return tensors
    calibration = [name for name in tensors if name.startswith("calibration/")]
    name = random_.choice(random_.choice((list(tensors), calibration or list(tensors))))
    tensor, change = tensors[name], random_.random()
    if change < 0.7:
        return tensors | {name: random_.choice(TENSOR_EDITS)(random_, tensor)}
    if change < 0.8:
        return tensors | {random_.choice(("weights/x", "calibration/x", "x")): tensor.clone()}
    if change < 0.9:
        other = random_.choice(list(tensors))
        return tensors | {name: tensors[other].clone(), other: tensor.clone()}
    others = {other: value for other, value in tensors.items() if other != name}
    new_name = random_.choice((None, f"{name}x", name.split("/")[-1], "weights/", "\0"))
    return others if new_name is None else others | {new_name: tensor}


def _other_type(random_: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    types = (torch.bfloat16, torch.float16, torch.float64, torch.float32, torch.int8, torch.int64, torch.bool)
    return tensor.to(random_.choice(types))


def _other_shape(random_: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    flat = tensor.flatten()
    transposed = tensor.movedim(0, -1).contiguous() if tensor.ndim else tensor
    return random_.choice((tensor[None], flat, flat[:-1], flat[:0], torch.cat([flat, flat]), transposed))


def _other_numbers(random_: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    floats, integers = (0.0, 1.0, -1.0, 1e30, -1e30, 1e-30, float("nan"), float("inf")), (0, 1, -1, 2**62)
    if tensor.dtype == torch.bool:
        return ~tensor
    number = random_.choice(floats if tensor.is_floating_point() else integers)
    if tensor.numel() == 0 or random_.random() < 0.5 or tensor.dtype == torch.int8:
        return torch.zeros_like(tensor)
    changed = tensor.clone().flatten()
    changed[random_.randrange(len(changed)) :: random_.choice((1, 7, len(changed)))] = number
    return changed.reshape(tensor.shape)


def _other_bits(random_: random.Random, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype == torch.bool or tensor.numel() == 0:
        return tensor
    data = bytearray(tensor.flatten().view(torch.uint8).numpy().tobytes())
    for _ in range(random_.choice((1, 8, 64))):
        data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
    return torch.frombuffer(data, dtype=tensor.dtype).reshape(tensor.shape)


TENSOR_EDITS = (_other_type, _other_shape, _other_numbers, _other_numbers, _other_bits, _other_bits)


def write_edited_model(random_: random.Random, original: Path, path: Path) -> None:
    """A model file after one to three edits."""
    metadata, tensors = read_model_file(original)
    for _ in range(random_.choice((1, 1, 2, 3))):
        if random_.random() < 0.6:
            metadata = edited_metadata(random_, metadata)
        else:
            tensors = edited_tensors(random_, tensors)
    write_model_file(path, metadata, tensors)


def write_edited_graph(random_: random.Random, original: Path, path: Path) -> None:
    """A graph after one to three edits: of metadata, and in ONNX of weights, nodes, or bytes in any place."""
    if original.suffix == ".xml":
        weights = original.with_suffix(".bin").read_bytes()
        graph = _with_edited_metadata(random_, original.read_bytes()[:-CHECKSUM_LENGTH])
        path.with_suffix(".bin").write_bytes(weights)
        path.write_bytes(with_openvino_checksum(graph, weights))
        return
    content = original.read_bytes()
    if random_.random() < 0.2:
        graph = content[:-CHECKSUM_LENGTH] if b"checksum" in content[-CHECKSUM_LENGTH:] else content
        path.write_bytes(with_onnx_checksum(damaged(random_, graph, [content])))
        return
    proto = onnx.load(original)
    for _ in range(random_.choice((1, 1, 2))):
        if random_.random() < 0.6:
            metadata = {entry.key: entry.value for entry in proto.metadata_props if entry.key != "checksum"}
            del proto.metadata_props[:]
            onnx.helper.set_model_props(proto, edited_metadata(random_, metadata))
        else:
            _edit_proto(random_, proto)
    write_graph(path, proto)


def _with_edited_metadata(random_: random.Random, graph: bytes) -> bytes:
    """An OpenVINO graph with other metadata. Its layers stay: OpenVINO itself breaks on odd ones."""
    start, end = graph.index(b"<ganomaly>"), graph.index(b"</ganomaly>")
    entries = re.findall(r'<(\w+) value="([^"]*)"', graph[start:end].decode())
    metadata = edited_metadata(random_, {name: html.unescape(text) for name, text in entries})
    written = "".join(f'<{name} value="{html.escape(text)}" />' for name, text in metadata.items())
    return graph[:start] + b"<ganomaly>" + written.encode(errors="surrogatepass") + graph[end:]


def _edit_proto(random_: random.Random, proto: onnx.ModelProto) -> None:
    node, initializer = random_.choice(proto.graph.node), random_.choice(proto.graph.initializer)
    change = random_.choice(("operator", "input", "remove", "attribute", "weights", "shape", "output"))
    if change == "operator":
        node.op_type = random_.choice(("Add", "Conv", "Reshape", "Identity", "Nonsense", "Loop", "TopK"))
    elif change == "input" and node.input:
        node.input[random_.randrange(len(node.input))] = random_.choice(proto.graph.node).output[0]
    elif change == "remove":
        proto.graph.node.remove(node)
    elif change == "attribute" and node.attribute:
        attribute = random_.choice(node.attribute)
        attribute.i, attribute.f = random_.choice((-1, 0, 7, 2**62)), random_.choice((0.0, -1.0, 1e30))
        if attribute.ints:
            attribute.ints[random_.randrange(len(attribute.ints))] = random_.choice((-1, 0, 3, 2**40))
    elif change == "weights" and initializer.raw_data:
        data = bytearray(initializer.raw_data)
        for _ in range(random_.choice((1, 8, 64))):
            data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        initializer.raw_data = bytes(data)
    elif change == "shape" and initializer.dims:
        initializer.dims[random_.randrange(len(initializer.dims))] = random_.choice((0, 1, 7, 2**40, -1))
    elif change == "output":
        del proto.graph.output[random_.randrange(len(proto.graph.output))]


# --- the promises ----------------------------------------------------------------------------------------


@cache
def images() -> np.ndarray:
    """Three normal images and two anomalous ones."""
    return np.concatenate([textures(3, seed=11), textures(2, seed=12, blob=True)])


def predictions(predictor: Predictor) -> list[Prediction]:
    return list(predictor.predict(open_images(images()), details=True, device="cpu"))


@cache
def original_predictions(path: Path) -> list[Prediction]:
    return predictions(load_predictor(path))


def check(original: Path, path: Path, *, is_damaged: bool, describe: bool) -> str:
    """Load a file and predict with it; return what became of it."""
    try:
        predictor = load_predictor(path)
        predicted = predictions(predictor)
        if describe:
            json.dumps(describe_model(path), allow_nan=False)
    except GANomalyError as error:
        sentence = str(error)
        if "\n" in sentence or len(sentence) > 1000 or not sentence.strip():
            raise BrokenPromiseError(f"not a sentence: {sentence[:2000]}") from error
        return "refused" if isinstance(error, ModelFileError) else f"refused ({type(error).__name__})"
    expected = original_predictions(original)
    if len(predicted) != len(expected):
        raise BrokenPromiseError(f"{len(predicted)} predictions of {len(expected)} images")
    for prediction in predicted:
        if (prediction.error is None) != (prediction.score is not None and np.isfinite(prediction.score)):
            raise BrokenPromiseError(f"neither score nor error: {prediction}")
    same = all(_are_equal(one, other) for one, other in zip(predicted, expected, strict=True))
    if not same and (is_damaged or _is_same_model(predictor, load_predictor(original))):
        raise BrokenPromiseError(
            f"scores {[prediction.score for prediction in predicted]}, not {[one.score for one in expected]}"
        )
    return "the same" if same else "another model"


def _are_equal(one: Prediction, other: Prediction) -> bool:
    return all(np.array_equal(value, getattr(other, name)) for name, value in vars(one).items())


def _is_same_model(one: Predictor, other: Predictor) -> bool:
    """Whether two model files say the same; two graphs never do."""
    if not isinstance(one, Model) or not isinstance(other, Model):
        return False
    states = one.method.state_dict(), other.method.state_dict()
    return (
        (one.method_name, one.method_options, one.preprocessing)
        == (other.method_name, other.method_options, other.preprocessing)
        and one.calibration.false_alarm_rate == other.calibration.false_alarm_rate
        and np.array_equal(one.calibration.scores, other.calibration.scores)
        and states[0].keys() == states[1].keys()
        and all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    )


def make_case(random_: random.Random, original: Path, path: Path, *, is_damaged: bool) -> None:
    """Write the file of a case."""
    if not is_damaged:
        (write_edited_model if original.suffix == ".safetensors" else write_edited_graph)(
            random_, original, path
        )
        return
    weights = original.with_suffix(".bin")
    others = [other.read_bytes() for other in sorted(original.parent.glob(f"*{original.suffix}"))]
    if original.suffix == ".xml":
        shutil.copy(weights, path.with_suffix(".bin"))
        if random_.random() < 0.5:
            shutil.copy(original, path)
            path.with_suffix(".bin").write_bytes(damaged(random_, weights.read_bytes(), others))
            return
    path.write_bytes(damaged(random_, original.read_bytes(), others))


def run(kind: str, originals: list[Path], folder: Path, number: int, seed: int) -> str:
    """Make a case and check it."""
    random_ = random.Random(f"{seed} {kind} {number}")
    original = random_.choice(originals)
    # nothing protects a graph of an earlier version from damage
    is_damaged = random_.random() < 0.5 and not original.stem.startswith("earlier-graph")
    path = folder / f"{number}{original.suffix}"
    make_case(random_, original, path, is_damaged=is_damaged)
    outcome = check(original, path, is_damaged=is_damaged, describe=random_.random() < 0.2)
    return f"{original.suffix} {'damaged' if is_damaged else 'edited'}: {outcome}"


def main(kind: str, sources: Path, first: int, count: int, seed: int) -> None:
    """Run cases, and print what became of them."""
    faulthandler.enable()
    suffixes = (".safetensors",) if kind == "models" else (".onnx", ".xml")
    originals = sorted(path for path in sources.iterdir() if path.suffix in suffixes)
    for original in originals:
        original_predictions(original)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MAX_MORE_BYTES, resource.RLIM_INFINITY))
    outcomes: Counter[str] = Counter()
    broken, slowest = 0, 0.0
    for number in range(first, first + count):
        print(f"case {number} of {kind} with seed {seed}", file=sys.stderr)
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        started = time.monotonic()
        try:
            with tempfile.TemporaryDirectory() as folder:
                outcomes[run(kind, originals, Path(folder), number, seed)] += 1
        except Exception:
            broken += 1
            print(f"BROKEN: case {number}: {traceback.format_exc()[-2500:]}", file=sys.stderr)
        slowest = max(slowest, time.monotonic() - started)
    faulthandler.cancel_dump_traceback_later()
    peak = peak_memory()
    counts = {"tries": count, "slowest": round(slowest, 2), "peak": peak, **dict(sorted(outcomes.items()))}
    print(json.dumps(counts))
    sys.exit(broken > 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
