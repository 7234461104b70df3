"""A second, strict PNG decoder, from zlib and NumPy alone: whatever the specification forbids is an error."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
WHOLE = ((0, 0, 1, 1),)
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class ForbiddenError(Exception):
    """The file is damaged."""


def check(condition: bool) -> None:
    if not condition:
        raise ForbiddenError


def chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    check(content[:8] == b"\x89PNG\r\n\x1a\n")
    found, position = [], 8
    while not found or found[-1][0] != b"IEND":
        check(position + 12 <= len(content))
        (length,) = struct.unpack(">I", content[position : position + 4])
        kind = content[position + 4 : position + 8]
        data = content[position + 8 : position + 8 + length]
        check(len(data) == length)
        checksum = content[position + 8 + length : position + 12 + length]
        check(checksum == struct.pack(">I", zlib.crc32(kind + data)))
        found.append((kind, data))
        position += 12 + length
    return found


def decode(content: bytes) -> NDArray[np.generic]:
    """Pixels `[H, W, C]` by the rules of `ganomaly.data.readers.decoding`, or `ForbiddenError`."""
    parts = chunks(content)
    check(parts[0][0] == b"IHDR" and len(parts[0][1]) == 13)
    width, height, bits, colour, compression, filters, interlaced = struct.unpack(">IIBBBBB", parts[0][1])
    check(width > 0 < height and compression == filters == 0 and interlaced in (0, 1))
    check(bits in DEPTHS.get(colour, ()))
    kinds = [kind for kind, _ in parts]
    places = [index for index, kind in enumerate(kinds) if kind == b"IDAT"]
    check(bool(places) and places == list(range(places[0], places[-1] + 1)))
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(b"".join(data for kind, data in parts if kind == b"IDAT"), 2**24)
    except zlib.error:
        raise ForbiddenError from None
    check(inflater.eof)
    samples = np.zeros((height, width, SAMPLES[colour]), np.uint16)
    position = 0
    for left, top, columns, rows in ADAM7 if interlaced else WHOLE:
        area = samples[top::rows, left::columns]
        if area.size == 0:
            continue
        stride = (area.shape[1] * bits * SAMPLES[colour] + 7) // 8
        lines = data[position : position + area.shape[0] * (stride + 1)]
        check(len(lines) == area.shape[0] * (stride + 1))
        position += len(lines)
        area[:] = unpacked(unfiltered(lines, stride, max(1, bits * SAMPLES[colour] // 8)), bits, area.shape)
    check(position == len(data))
    if colour == 3:
        palette = next((data for kind, data in parts[: places[0]] if kind == b"PLTE"), b"")
        check(0 < len(palette) <= 768 and len(palette) % 3 == 0)
        table = np.zeros((256, 3), np.uint8)
        table[: len(palette) // 3] = np.frombuffer(palette, np.uint8).reshape(-1, 3)
        used = table[: len(palette) // 3]
        return table[samples[..., 0]][..., : 1 if (used == used[:, :1]).all() else 3]
    samples = samples[..., : {2: 1, 4: 3}.get(SAMPLES[colour])]
    if bits < 8:
        samples = samples * (255 // (2**bits - 1))
    return samples if bits == 16 else samples.astype(np.uint8)


def unfiltered(lines: bytes, stride: int, pixel: int) -> NDArray[np.uint8]:
    rows = []
    above = bytearray(stride)
    for start in range(0, len(lines), stride + 1):
        kind, line = lines[start], bytearray(lines[start + 1 : start + 1 + stride])
        check(kind <= 4)
        for index in range(stride):
            left = line[index - pixel] if index >= pixel else 0
            corner = above[index - pixel] if index >= pixel else 0
            line[index] = (line[index] + prediction(kind, left, above[index], corner)) & 255
        rows.append(line)
        above = line
    return np.array([list(row) for row in rows], np.uint8)


def prediction(kind: int, left: int, above: int, corner: int) -> int:
    if kind < 4:
        return (0, left, above, (left + above) // 2)[kind]
    distances = [abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)]
    return (left, above, corner)[distances.index(min(distances))]


def unpacked(rows: NDArray[np.uint8], bits: int, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    if bits == 16:
        return rows.view(">u2").astype(np.uint16).reshape(shape)
    if bits == 8:
        return rows.astype(np.uint16).reshape(shape)
    values = np.unpackbits(rows, axis=1).reshape(len(rows), -1, bits) @ (1 << np.arange(bits)[::-1])
    return values[:, : shape[1]].astype(np.uint16).reshape(shape)
