"""Datasets of images: folders, MVTec AD layout, parquet and arrays; inspected, split, decoded and resized to batches.

`open_training_images`, `open_test_images` and `open_images` give a dataset; `inspect_images` reads its headers;
`split_normal_images` chooses what trains and what calibrates; `ImageLoader` gives batches to train on, `read_batches`
batches to score.
"""

from ganomaly.data.inspect import (
    ChannelChoice,
    Inspection,
    agreed_bits,
    choose_channels,
    inspect_images,
    suggested_image_size,
)
from ganomaly.data.loader import ImageBatch, ImageLoader, read_batches
from ganomaly.data.prefetch import in_order
from ganomaly.data.readers.encoded_image import EncodedImage, FormatFamily, ImageHeader, Pixels
from ganomaly.data.readers.registry import register_reader
from ganomaly.data.resizing import resize_image
from ganomaly.data.sources.arrays import ImageArrays
from ganomaly.data.sources.dataset import ImageDataset, ImageRecord, Subset
from ganomaly.data.sources.ignored import ImagesWithIgnoredRegions, with_ignored_regions
from ganomaly.data.sources.labelled_arrays import CIFAR10_NAMES, check_labelled_arrays, load_labelled_arrays
from ganomaly.data.sources.open import open_images, open_test_images, open_training_images
from ganomaly.data.splits import TrainingSplit, check_enough_images, joined_split, split_normal_images

__all__ = [
    "CIFAR10_NAMES",
    "ChannelChoice",
    "EncodedImage",
    "FormatFamily",
    "ImageArrays",
    "ImageBatch",
    "ImageDataset",
    "ImageHeader",
    "ImageLoader",
    "ImageRecord",
    "ImagesWithIgnoredRegions",
    "Inspection",
    "Pixels",
    "Subset",
    "TrainingSplit",
    "agreed_bits",
    "check_enough_images",
    "check_labelled_arrays",
    "choose_channels",
    "in_order",
    "inspect_images",
    "joined_split",
    "load_labelled_arrays",
    "open_images",
    "open_test_images",
    "open_training_images",
    "read_batches",
    "register_reader",
    "resize_image",
    "split_normal_images",
    "suggested_image_size",
    "with_ignored_regions",
]
