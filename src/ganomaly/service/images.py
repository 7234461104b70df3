"""Stored images and maps, and what is drawn from them when it is asked for."""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganomaly.data import Pixels
from ganomaly.data.readers.decoding import decode_image
from ganomaly.data.sources.encoded import EncodedImages
from ganomaly.errors import ImageError
from ganomaly.outputs.heat import blended_with_heat, to_8_bit, to_rgb
from ganomaly.prediction import resize_map
from ganomaly.service.security import RequestError
from ganomaly.service.station import Station
from ganomaly.store.schema import PredictionRow

LONGER_SIDE = 1024
"""Of what is drawn for pages, in pixels."""

JPEG_QUALITY = 85


def stored_image(station: Station, row: PredictionRow) -> Path:
    """The file of the image of a prediction.

    Raises
    ------
    RequestError
        404 if it is not stored any more.
    """
    path = station.store.files.image(row.digest, row.media_type)
    if not row.has_image or not path.is_file():
        raise RequestError(404, f"the image of prediction {row.id} is not stored")
    return path


def stored_map(station: Station, row: PredictionRow) -> Path:
    """The file of a map.

    Raises
    ------
    RequestError
        404 if it is not stored any more, or there never was one.
    """
    path = station.store.files.anomaly_map(row.model_id, row.version, row.digest)
    if not row.has_map or not path.is_file():
        raise RequestError(404, f"the map of prediction {row.id} is not stored")
    return path


def image_jpeg(station: Station, row: PredictionRow, longer_side: int = LONGER_SIDE) -> bytes:
    """The image as a browser shows it.

    Raises as `stored_image` does.
    """
    return _jpeg(_shown(station, row, longer_side))


def overlay_jpeg(station: Station, row: PredictionRow, longer_side: int = LONGER_SIDE) -> bytes:
    """The image with its map in colours.

    Raises as `stored_image` and `stored_map` do.
    """
    path = stored_map(station, row)
    image = _shown(station, row, longer_side)
    level = decode_image(path)[..., 0].astype(np.float32) * (2 / 65535)
    level = resize_map(level, *image.shape[:2])
    return _jpeg(blended_with_heat(image, level, float(level.max())))


def reconstruction_jpeg(station: Station, row: PredictionRow) -> bytes:
    """x̂ of the image, computed now by the version that predicts now.

    Raises
    ------
    RequestError
        404 if the image is not stored, the model is not served, or its method does not reconstruct images.
    """
    path = stored_image(station, row)
    served = station.models.get(station.name_of(row.model_id))
    if served is None:
        raise RequestError(404, "the model of this prediction is not served any more")
    dataset = EncodedImages([path.read_bytes()], [row.name])
    with served.computing:
        prediction = next(iter(served.resident.predictor.predict(dataset, details=True)))
    if prediction.reconstruction is None:
        raise RequestError(404, f"the method {served.resident.predictor.method_name} shows no reconstruction")
    return _jpeg(to_rgb(prediction.reconstruction))


def _shown(station: Station, row: PredictionRow, longer_side: int) -> NDArray[np.uint8]:
    path = stored_image(station, row)
    served = station.models.get(station.name_of(row.model_id))
    preprocessing = None if served is None else served.resident.predictor.preprocessing
    white = 65535 if preprocessing is None else preprocessing.white_level
    value_range = None if preprocessing is None else preprocessing.value_range
    try:
        pixels: Pixels = decode_image(path, name=row.name, value_range=value_range)
    except ImageError as error:
        raise RequestError(404, f"the stored image cannot be shown: {error}") from None
    image = Image.fromarray(np.ascontiguousarray(to_rgb(to_8_bit(pixels, white))))
    image.thumbnail((longer_side, longer_side))
    return np.asarray(image)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
