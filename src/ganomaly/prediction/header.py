"""The description of a model, as JSON in model files and in the metadata of graphs: one schema for both.

It is checked before anything is built. Each text has a largest size, each number has bounds, and JSON is nested at
most 200 deep, which is pydantic's limit.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import from_json

from ganomaly.calibration import Calibration, MapCalibration
from ganomaly.config import MAX_OPTION_TEXT, Preprocessing, Rate, first_error
from ganomaly.data.ignored_region import mask_of
from ganomaly.data.products import MAX_NAME, MAX_PRODUCTS
from ganomaly.errors import ModelFileError, UsageError

MAX_JSON = 2**20
"""Characters of one JSON text of a model file."""

MAX_GRAPH_JSON = 2**27
"""Characters of one JSON text of a graph, whose calibration scores are part of it: enough for two million images."""

_MAX_VERSION_DIGITS = 6
_Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Text = Annotated[str, Field(max_length=1000)]
_OptionText = Annotated[str, Field(max_length=MAX_OPTION_TEXT)]
_Name = Annotated[str, Field(max_length=100, pattern=r"^[\w.-]+$")]
_ProductName = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
_Score = Annotated[float, Field(ge=0)]


class ModelHeader(BaseModel):
    """The JSON object that describes a model in its file. Other keys are ignored: later versions may add some."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, title="header", defer_build=True)

    method: _Name
    preset: _Name
    options: Annotated[dict[_Name, bool | _Integer | float | _OptionText | None], Field(max_length=100)]
    preprocessing: Preprocessing
    false_alarm_rate: Rate
    products: Annotated[list[_ProductName], Field(min_length=2, max_length=MAX_PRODUCTS)] | None = None
    """Names of the products, where the model has several."""


class GraphHeader(ModelHeader):
    """The same for a graph, with the calibration, which a model file holds as tensors."""

    threshold: _Score
    calibration_scores: Annotated[list[_Score], Field(min_length=1)]
    product_scores: list[Annotated[list[_Score], Field(min_length=1)]] | None = None
    """Of each product, in the order of their names."""
    map_medians: list[float]
    map_maxima: list[float]
    checksum: Literal["sha256"] | None = None
    """Which checksum the file ends with; graphs of earlier versions have none."""


class Provenance(BaseModel):
    """Where a model comes from; other keys may be there, of any JSON."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", title="provenance", defer_build=True)
    __pydantic_extra__: dict[str, JsonValue]

    ganomaly: _Text | None = None
    torch: _Text | None = None
    numpy: _Text | None = None
    python: _Text | None = None
    machine: _Text | None = None
    threads: _Count | None = None
    device: _Text | None = None
    precision: _Text | None = None
    seed: _Count | None = None
    image_size_asked: _Count | None = None
    epochs: _Count | None = None
    steps: _Count | None = None
    batch_size: _Count | None = None
    training_images: _Count | None = None
    calibration_images: _Count | None = None
    patients: _Count | None = None
    training_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    recoveries: list[_Text] = []
    data_fingerprint: _Text | None = None
    created: _Text | None = None


Header = TypeVar("Header", bound=ModelHeader)


def read_format_version(path: Path, metadata: Mapping[str, str], newest: int) -> int:
    """The format version of a file.

    Parameters
    ----------
    path : Path
        The file, for messages.
    metadata : mapping of str to str
        Its metadata.
    newest : int
        The newest version that this package reads.

    Raises
    ------
    ModelFileError
        If it is newer, or not a version.
    """
    text = metadata.get("format_version", "")
    if text.isascii() and text.isdecimal():
        shortened = text if len(text) <= _MAX_VERSION_DIGITS else f"{text[:_MAX_VERSION_DIGITS]} …"
        if len(text) > _MAX_VERSION_DIGITS or int(text) > newest:
            raise ModelFileError(
                f"{path} was written by a newer version of ganomaly (format {shortened}, this one reads up to "
                f"{newest}); upgrade ganomaly"
            )
        if int(text) >= 1:
            return int(text)
    raise damaged(path, f"its format version is {text[:40]!r}, not a number from 1 to {newest}")


def read_header(path: Path, metadata: Mapping[str, str], schema: type[Header], *, max_size: int) -> Header:
    """The header of a file, checked.

    Raises
    ------
    ModelFileError
        If it is missing, too large, or a value is wrong; it says which.
    """
    text = _text(path, metadata, "model", max_size)
    try:
        header = schema.model_validate_json(text, strict=True)
        if header.products is not None and len({*header.products}) < len(header.products):
            raise damaged(path, "two of its products have one name")
        if header.preprocessing.ignored is not None:
            mask_of(header.preprocessing.ignored)
    except ValidationError as error:
        raise damaged(path, f"its header is not valid: {first_error(error)}") from error
    except UsageError as error:
        raise damaged(path, f"its header is not valid: {error}") from error
    return header


def read_provenance(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Where the model in a file comes from, in the file's own order.

    Raises
    ------
    ModelFileError
        If it is missing, too large, or a value is wrong; it says which.
    """
    text = _text(path, metadata, "provenance", MAX_JSON)
    try:
        provenance = from_json(text, allow_inf_nan=False)
        if not isinstance(provenance, dict):
            raise damaged(path, "its provenance is not an object")
        Provenance.model_validate(provenance)
    except ValidationError as error:
        raise damaged(path, f"its provenance is not valid: {first_error(error)}") from error
    except ValueError as error:
        raise damaged(path, f"its provenance is not JSON ({error})") from error
    return provenance


def calibration_of(
    path: Path,
    scores: NDArray[np.float64],
    maps: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    false_alarm_rate: float,
) -> tuple[Calibration, MapCalibration | None]:
    """The calibration of a model, from a file.

    Parameters
    ----------
    path : Path
        The file, for messages.
    scores : ndarray
        `float64[n]` of the calibration images.
    maps : tuple of ndarray, optional
        Medians and maxima of their maps, `float64[m]` each; None where the method has no maps.
    false_alarm_rate : float
        The rate that the user chose.

    Raises
    ------
    ModelFileError
        If no threshold follows from these numbers.
    """
    if not (np.isfinite(scores).all() and (scores >= 0).all()):
        raise damaged(path, "its calibration scores are not all finite numbers ≥ 0")
    if len(scores) == 0 or (len(scores) > 1 and np.ptp(scores) == 0):
        raise damaged(path, "its calibration scores do not differ")
    calibration = Calibration(scores, false_alarm_rate)
    if maps is None:
        return calibration, None
    medians, maxima = maps
    if len(medians) != len(maxima) or not (np.isfinite(medians).all() and np.isfinite(maxima).all()):
        raise damaged(
            path, "its calibration of maps does not have one finite median and maximum for each map"
        )
    return calibration, MapCalibration(medians, maxima, false_alarm_rate)


def damaged(path: Path, what: str) -> ModelFileError:
    """The error about a file of ours that cannot be used as it is."""
    return ModelFileError(
        f"{path} is a model of ganomaly, but {what}; use the original file, or make it again"
    )


def _text(path: Path, metadata: Mapping[str, str], key: str, max_size: int) -> str:
    text = metadata.get(key)
    if text is None:
        raise damaged(path, f"it has no {key} in its metadata")
    if len(text) > max_size:
        raise damaged(path, f"its {key} metadata is too large ({len(text):,} characters)")
    return text
