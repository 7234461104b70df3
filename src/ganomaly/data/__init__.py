"""Where images come from: folders, MVTec AD layout, parquet, arrays; decoded, and brought to the network's size.

`open_training_images`, `open_test_images` and `open_images` find them; `survey` tells sizes and channels without
decoding; `PreparedImages` gives batches to train on, `decode_ahead` batches to score.
"""

from ganomaly.data.datasets import ImageArrays, ImageFiles
from ganomaly.data.decoding import SUFFIXES, decode_image, read_header
from ganomaly.data.encoded_image import EncodedImage, ImageHeader, Pixels
from ganomaly.data.image_dataset import ChosenImages, ImageDataset, ImageRecord
from ganomaly.data.labelled_arrays import CIFAR10_NAMES, LabelledArrays, load_labelled_arrays
from ganomaly.data.opening import NORMAL_NAMES, open_images, open_test_images, open_training_images
from ganomaly.data.prefetch import in_order
from ganomaly.data.prepared import DecodedBatch, PreparedImages, decode_ahead, scaled_side
from ganomaly.data.resizing import resize_image
from ganomaly.data.survey import Survey, agreed_channels, suggested_image_size, survey

__all__ = [
    "CIFAR10_NAMES",
    "NORMAL_NAMES",
    "SUFFIXES",
    "ChosenImages",
    "DecodedBatch",
    "EncodedImage",
    "ImageArrays",
    "ImageDataset",
    "ImageFiles",
    "ImageHeader",
    "ImageRecord",
    "LabelledArrays",
    "Pixels",
    "PreparedImages",
    "Survey",
    "agreed_channels",
    "decode_ahead",
    "decode_image",
    "in_order",
    "load_labelled_arrays",
    "open_images",
    "open_test_images",
    "open_training_images",
    "read_header",
    "resize_image",
    "scaled_side",
    "suggested_image_size",
    "survey",
]
