"""Damages images and parquet files, reads them, and compares what is read with a second decoder.

`python fuzz_images.py images|parquet FIRST COUNT SEED` prints counts as JSON, or ends with the case that broke a
promise. A case follows from its number and the seed alone.
"""

import faulthandler
import io
import json
import os
import random
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from faults import strict_png
from faults.process_memory import peak_memory
from ganomaly.data import open_images, open_test_images, open_training_images
from ganomaly.data.inspect import inspect_images
from ganomaly.data.readers.decoding import decode_image, read_header
from ganomaly.errors import GANomalyError, ImageError

HANG_SECONDS = 30
HEIGHT, WIDTH = 12, 17
INTERESTING = (0, 1, 2, 3, 4, 7, 8, 0x10, 0x20, 0x7F, 0x80, 0xFE, 0xFF)
LONGER = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\0\0\x7f\xff", b"\1\0\0\0")


# --- undamaged files -------------------------------------------------------------------------------------


@cache
def image_seeds() -> dict[str, bytes]:
    """Small images of every format and kind."""
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    gradient = np.linspace(0, 255, WIDTH).astype(np.uint8)[None].repeat(HEIGHT, axis=0)
    deep = generator.integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    colour, gray = Image.fromarray(colours), Image.fromarray(gradient)

    def saved(image: Image.Image, format_name: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, format_name, **options)
        return file.getvalue()

    def tiff(pixels: Any, **options: Any) -> bytes:
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, metadata=None, **options)
        return file.getvalue()

    seeds = {
        "png rgb": saved(colour, "PNG"),
        "png gray": saved(gray, "PNG"),
        "png drawing": saved(gray.point(lambda level: 255 * (level > 99)), "PNG"),
        "png rgba": saved(colour.convert("RGBA"), "PNG"),
        "png palette": saved(colour.quantize(11), "PNG"),
        "png 1 bit": saved(gray.convert("1"), "PNG"),
        "png text": saved(gray, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
        "png 16 bit": imagecodecs.png_encode(deep),
        "png 16 bit gray": imagecodecs.png_encode(np.ascontiguousarray(deep[..., 0])),
        "png interlaced": interlaced_png(gradient),
        "png interlaced 16 bit": interlaced_png(deep),
        "jpeg rgb": saved(colour, "JPEG"),
        "jpeg gray": saved(gray, "JPEG", quality=90),
        "jpeg progressive": saved(colour, "JPEG", progressive=True),
        "jpeg cmyk": saved(colour.convert("CMYK"), "JPEG"),
        "bmp rgb": saved(colour, "BMP"),
        "bmp palette": saved(colour.quantize(11), "BMP"),
        "bmp gray": saved(gray, "BMP"),
        "bmp 1 bit": saved(gray.convert("1"), "BMP"),
        "webp": saved(colour, "WEBP"),
        "webp lossless": saved(colour, "WEBP", lossless=True),
        "webp rgba": saved(colour.convert("RGBA"), "WEBP"),
    }
    for name, pixels, options in (
        ("gray", gradient, {}),
        ("rgb", colours, {"photometric": "rgb"}),
        ("16 bit", deep, {"photometric": "rgb"}),
        ("strips", gradient, {"rowsperstrip": 3}),
        ("tiles", gradient, {"tile": (16, 16)}),
        ("planes", np.moveaxis(colours, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
    ):
        for compression in (None, "adobe_deflate", "lzw", "packbits", "lzma", "zstd"):
            seeds[f"tiff {name} {compression}"] = tiff(pixels, compression=compression, **options)
    seeds["tiff predictor"] = tiff(gradient, compression="adobe_deflate", predictor=2)
    seeds["tiff palette"] = saved(colour.quantize(11), "TIFF")
    seeds["tiff group4"] = saved(gray.convert("1"), "TIFF", compression="group4")
    seeds["tiff jpeg"] = saved(colour, "TIFF", compression="jpeg")
    return seeds


def interlaced_png(pixels: Any) -> bytes:
    rows = [
        b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes()
        for left, top, columns, step in strict_png.ADAM7
        for row in pixels[top::step, left::columns]
        if row.size
    ]
    bits, colour = 8 * pixels.itemsize, 2 if pixels.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, colour, 0, 0, 1)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@cache
def parquet_seeds() -> dict[str, bytes]:
    """Small parquet files of every layout that is read, of PNG images and BMP ones."""
    seeds = {}
    info = {"info": {"features": {"label": {"names": ["good", "crack"], "_type": "ClassLabel"}}}}
    for format_name in ("PNG", "BMP"):
        content = [encoded_level(level, format_name) for level in range(12)]
        struct_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        structs = pa.array(
            [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(content)], struct_type
        )
        for number, compression in enumerate(("none", "snappy", "gzip", "zstd")):
            table = pa.table(
                {"image": structs if number % 2 else pa.array(content), "label": [i % 2 for i in range(12)]}
            ).replace_schema_metadata({"huggingface": json.dumps(info)})
            file = io.BytesIO()
            pq.write_table(
                table, file, compression=compression, row_group_size=5, use_dictionary=number > 1,
                write_page_checksum=format_name == "BMP",
            )  # fmt: skip
            seeds[f"{format_name} {compression}"] = file.getvalue()
    return seeds


def encoded_level(level: int, format_name: str) -> bytes:
    file = io.BytesIO()
    Image.new("L", (7, 5), 20 * level).save(file, format_name)
    return file.getvalue()


# --- damage ----------------------------------------------------------------------------------------------


def damaged(random_: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """A file after one to six changes."""
    changed = bytearray(content)
    for _ in range(random_.choice((1, 1, 1, 2, 3, 6))):
        if len(changed) < 8:
            break
        position = random_.randrange(len(changed))
        if random_.random() < 0.3:
            position = random_.randrange(min(len(changed), 64))  # headers have most to say
        kind = random_.randrange(9)
        if kind <= 2:
            changed[position] ^= 1 << random_.randrange(8)
        elif kind == 3:
            changed[position] = random_.choice(INTERESTING)
        elif kind == 4:
            changed[position : position + 4] = random_.choice(LONGER)
        elif kind == 5:
            del changed[position : position + random_.choice((1, 2, 4, 40))]
        elif kind == 6:
            changed[position:position] = bytes(
                random_.randrange(256) for _ in range(random_.choice((1, 4, 30)))
            )
        elif kind == 7:
            del changed[position:]
        else:
            other = random_.choice(others)
            start = random_.randrange(len(other))
            changed[position : position + 30] = other[start : start + 30]
    return bytes(changed)


def damaged_png(random_: random.Random, content: bytes) -> bytes:
    """A PNG whose chunks or whose inflated rows were changed, with right checksums, or one of them wrong."""
    parts = strict_png.chunks(content)
    which = random_.randrange(len(parts))
    kind, data = parts[which]
    changed = bytearray(data)
    if kind == b"IDAT" and random_.random() < 0.7:
        changed = bytearray(zlib.decompress(data))
        for _ in range(random_.choice((1, 2, 5))):
            changed[random_.randrange(len(changed))] = random_.choice((*INTERESTING, random_.randrange(256)))
        if random_.random() < 0.3:
            del changed[random_.randrange(len(changed)) :]
        changed = bytearray(zlib.compress(changed + bytes(random_.choice((0, 0, 0, 1, 300)))))
        if random_.random() < 0.3:
            changed[-1 - random_.randrange(4)] ^= 1 << random_.randrange(8)
    elif changed:
        changed[random_.randrange(len(changed))] = random_.choice((*INTERESTING, random_.randrange(256)))
    else:
        parts.insert(which, random_.choice(parts))
    parts = [(k, bytes(changed) if d is data else d) for k, d in parts]
    if random_.random() < 0.2:
        random_.shuffle(parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


# --- second decoders: pixels, None where there is no second opinion, `ForbiddenError` if it must be refused ----


def second_opinion(name: str, content: bytes) -> Any:
    if content[:4] == b"\x89PNG":
        return strict_png.decode(content)
    if content[:3] == b"\xff\xd8\xff":
        return jpeg(content)
    if content[:4] == b"RIFF":
        return imagecodecs.webp_decode(content)[..., :3]
    if content[:2] == b"BM":
        return bmp(content)
    return tiff_pixels(content)


def jpeg(content: bytes) -> Any:
    pixels = imagecodecs.jpeg8_decode(content)
    return (
        None if pixels.ndim == 3 and pixels.shape[2] == 4 else pixels
    )  # CMYK is converted by each in its own way


def bmp(content: bytes) -> Any:
    """Of the plain kinds; None for others."""
    start, header, width, height, _, bits, compression = struct.unpack("<IIiiHHI", content[10:34])
    if (
        header < 40
        or start < 14 + header
        or compression
        or bits not in (1, 8, 24)
        or width <= 0
        or height == 0
    ):
        return None
    rows, stride = abs(height), (width * bits + 31) // 32 * 4
    data = np.frombuffer(content[start : start + rows * stride], np.uint8)
    if data.size != rows * stride:
        return None
    lines = data.reshape(rows, stride)[:: -1 if height > 0 else 1]
    if bits == 24:
        return lines[:, : 3 * width].reshape(rows, width, 3)[..., ::-1]
    (used,) = struct.unpack("<I", content[46:50])
    colours = min(used or 2**bits, 2**bits)
    table = np.zeros((256, 3), np.uint8)
    stored = np.frombuffer(content[14 + header : 14 + header + 4 * colours], np.uint8)
    if stored.size != 4 * colours or used > 2**bits:
        return None
    table[:colours] = stored.reshape(-1, 4)[:, 2::-1]
    indices = lines[:, :width] if bits == 8 else np.unpackbits(lines, axis=1)[:, :width]
    if indices.max() >= colours:
        return None
    pixels = table[indices]
    gray = (table[:colours] == table[:colours, :1]).all()
    return pixels[..., :1] if gray else pixels


def tiff_pixels(content: bytes) -> Any:
    """By the other one of tifffile and libtiff; where a strip has a checksum, it must be right."""
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page: Any = file.pages[0]
        if page.photometric not in (1, 2) or page.bitspersample not in (8, 16) or page.extrasamples:
            return None
        if page.compression in (8, 32946):
            for start, length in zip(page.dataoffsets, page.databytecounts, strict=True):
                inflater = zlib.decompressobj()
                try:
                    inflater.decompress(content[start : start + length])
                except zlib.error:
                    raise strict_png.ForbiddenError from None
                strict_png.check(inflater.eof)
        if page.tags.valueof(274, 1) != 1:
            return None
        if page.compression in (1, 8, 32946, 34925, 50000):
            pixels = imagecodecs.tiff_decode(content, index=0)
        else:
            pixels = page.asarray(maxworkers=1)
        if page.axes == "SYX" and pixels.ndim == 3:
            pixels = np.moveaxis(pixels, 0, -1)
        return pixels.reshape(page.imagelength, page.imagewidth, -1)


# --- the promises ----------------------------------------------------------------------------------------


class BrokenPromiseError(Exception):
    """An image was neither refused in a sentence nor decoded to its pixels."""


def check_image(name: str, content: bytes) -> str:
    """Decode, and compare; return what became of it."""
    try:
        pixels = decode_image(content, name="part.png")
        header = read_header(content, name="part.png")
    except ImageError as error:
        if not str(error).startswith("part.png ") or "\n" in str(error):
            raise BrokenPromiseError(f"not a sentence: {error}") from None
        return "refused"
    if (header.height, header.width, header.channels) != pixels.shape:
        raise BrokenPromiseError(f"the header says {header}, the pixels {pixels.shape}")
    try:
        expected = second_opinion(name, content)
    except strict_png.ForbiddenError:
        raise BrokenPromiseError("decoded, but a strict decoder refuses it") from None
    except Exception as error:
        return f"no second opinion: {type(error).__name__}"
    if expected is None:
        return "no second opinion"
    expected = expected.reshape(*expected.shape[:2], -1)
    if expected.shape != pixels.shape or not (expected == pixels).all():
        raise BrokenPromiseError(
            f"other pixels: {pixels.shape} {pixels.ravel()[:9]}, not {expected.shape} {expected.ravel()[:9]}"
        )
    return "equal"


def check_parquet(folder: Path, content: bytes) -> str:
    """Open for each purpose, and read all rows."""
    path = folder / "x.parquet"
    path.write_bytes(content)
    outcomes = set()
    opens: tuple[Callable[[Path], Any], ...] = (open_images, open_training_images, open_test_images)
    for open_any in opens:
        try:
            dataset = open_any(path)
            if len(dataset) > 1000:
                outcomes.add("many rows")
                continue
            inspect_images(dataset)
        except GANomalyError as error:
            if "\n" in str(error):
                raise BrokenPromiseError(f"not a sentence: {error}") from None
            outcomes.add("refused")
            continue
        for index in range(len(dataset)):
            dataset.content_digest(index)
            try:
                pixels = dataset.read(index)
            except ImageError:
                outcomes.add("row refused")
                continue
            outcomes.add("row read")
            if pixels.shape != (5, 7, 1) or len(np.unique(pixels)) != 1 or pixels[0, 0, 0] % 20:
                raise BrokenPromiseError(f"row {index} has pixels that no image in the file had")
    return ", ".join(sorted(outcomes))


def main(kind: str, first: int, count: int, seed: int) -> None:
    """Run cases, and print what became of them."""
    seeds = image_seeds() if kind == "images" else parquet_seeds()
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            random_ = random.Random(f"{seed} {kind} {number}")
            name = random_.choice(list(seeds))
            content = seeds[name]
            if name.startswith("png") and random_.random() < 0.5:
                content = damaged_png(random_, content)
            else:
                content = damaged(random_, content, list(seeds.values()))
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            started = time.monotonic()
            try:
                outcome = (
                    check_image(name, content) if kind == "images" else check_parquet(Path(folder), content)
                )
            except Exception:
                print(
                    f"case {number} of {kind} with seed {seed}, from {name}: {content.hex()}", file=sys.stderr
                )
                raise
            slowest = max(slowest, time.monotonic() - started)
            outcomes[f"{name.split()[0]}: {outcome}"] += 1
    faulthandler.cancel_dump_traceback_later()
    peak = peak_memory()
    print(
        json.dumps(
            {"tries": count, "slowest": round(slowest, 2), "peak": peak, **dict(sorted(outcomes.items()))}
        )
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1], *map(int, sys.argv[2:]))
