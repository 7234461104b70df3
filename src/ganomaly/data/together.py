"""Training batches that several processes read together: each decodes a part of the images, and all get all."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.batch_decoding import DecodedImages, InputFormat
from ganomaly.data.readers.encoded_image import Pixels


class Peers(Protocol):
    """The processes that read together."""

    rank: int
    """Which of them this is."""
    number: int
    """How many they are."""

    def rows(self, n: int) -> slice:
        """Which of n images this process reads."""

    def gather_bytes(self, content: bytes) -> list[bytes]:
        """What each process has read."""


def own_parts(index_batches: Iterable[NDArray[np.int64]], peers: Peers) -> Iterator[NDArray[np.int64]]:
    """What this process reads of each batch."""
    return (indices[peers.rows(len(indices))] for indices in index_batches)


def whole_batch(
    own: DecodedImages, input_format: InputFormat, seed: Sequence[int], peers: Peers
) -> tuple[Pixels, dict[int, str]]:
    """A batch as one process would read it, and the failures of all.

    Parameters
    ----------
    own : DecodedImages
        What this process has decoded of the batch.
    input_format : InputFormat
        Of the images.
    seed : sequence of int
        It fixes the positions of patches.
    peers : Peers
        All of them call this.

    Returns
    -------
    pixels : ndarray
        `uint8` or `uint16` `[n, S, S, C]`; n is 0 if no image could be decoded.
    failures : dict of int to str
        Index of each image that could not be decoded, and why.
    """
    sizes = [image.shape[:2] for image in own.images]
    said = json.dumps({"sizes": sizes, "failures": own.failures}).encode()
    everyone = [json.loads(content) for content in peers.gather_bytes(said)]
    failures = {int(index): why for one in everyone for index, why in one["failures"].items()}
    images: Sequence[Pixels] = own.images
    size = input_format.image_size
    if input_format.scale is not None:
        # one process draws the positions one after the other, and how depends on the sizes
        generator = np.random.default_rng(seed)
        positions = [
            [patch_position(height, width, size, generator) for height, width in one["sizes"]]
            for one in everyone
        ]
        images = [patch(image, size, *at) for image, at in zip(images, positions[peers.rank], strict=True)]
    content = b"".join(np.ascontiguousarray(image).tobytes() for image in images)
    pixels = np.frombuffer(b"".join(peers.gather_bytes(content)), input_format.dtype)
    return cast(Pixels, pixels.reshape(-1, size, size, input_format.shape(1, 1)[2])), failures


def random_patch(image: Pixels, size: int, generator: np.random.Generator) -> Pixels:
    """A patch `[size, size, C]` at a random position."""
    height, width = image.shape[:2]
    return patch(image, size, *patch_position(height, width, size, generator))


def patch_position(height: int, width: int, size: int, generator: np.random.Generator) -> tuple[int, int]:
    """Top and left of a random patch of an image."""
    top, left = (int(generator.integers(max(side, size) - size + 1)) for side in (height, width))
    return top, left


def patch(image: Pixels, size: int, top: int, left: int) -> Pixels:
    """The patch `[size, size, C]` there; a smaller image is mirrored at its right and lower edge."""
    missing = [(0, max(0, size - side)) for side in image.shape[:2]]
    if missing != [(0, 0), (0, 0)]:
        image = cast(Pixels, np.pad(image, [*missing, (0, 0)], mode="symmetric"))
    return image[top : top + size, left : left + size]
