"""Where images come from: folders, MVTec AD layout, parquet, arrays; decoded, and brought to the network's size.

`open_training_images`, `open_test_images` and `open_images` find them; `inspect_images` tells sizes and channels
without decoding; `ImageLoader` gives batches to train on, `read_batches` batches to score.
"""

from ganomaly.data.batch_decoding import scaled_side
from ganomaly.data.inspect import (
    ChannelChoice,
    Inspection,
    choose_channels,
    inspect_images,
    suggested_image_size,
)
from ganomaly.data.loader import ImageBatch, ImageLoader, read_batches
from ganomaly.data.prefetch import in_order
from ganomaly.data.readers.decoding import SUFFIXES, decode_image, read_header
from ganomaly.data.readers.encoded_image import EncodedImage, ImageHeader, Pixels
from ganomaly.data.resizing import resize_image
from ganomaly.data.sources.dataset import ImageDataset, ImageRecord, Subset
from ganomaly.data.sources.files import ImageArrays, ImageFiles
from ganomaly.data.sources.labelled_arrays import CIFAR10_NAMES, LabelledArrays, load_labelled_arrays
from ganomaly.data.sources.open import NORMAL_NAMES, open_images, open_test_images, open_training_images
from ganomaly.data.splits import TrainingSplit, check_enough_images, split_normal_images

__all__ = [
    "CIFAR10_NAMES",
    "NORMAL_NAMES",
    "SUFFIXES",
    "ChannelChoice",
    "EncodedImage",
    "ImageArrays",
    "ImageBatch",
    "ImageDataset",
    "ImageFiles",
    "ImageHeader",
    "ImageLoader",
    "ImageRecord",
    "Inspection",
    "LabelledArrays",
    "Pixels",
    "Subset",
    "TrainingSplit",
    "check_enough_images",
    "choose_channels",
    "decode_image",
    "in_order",
    "inspect_images",
    "load_labelled_arrays",
    "open_images",
    "open_test_images",
    "open_training_images",
    "read_batches",
    "read_header",
    "resize_image",
    "scaled_side",
    "split_normal_images",
    "suggested_image_size",
]
