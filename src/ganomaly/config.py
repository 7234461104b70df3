"""Every option, typed and validated, with its default and where the default comes from.

Options of one method (its loss weights, its latent size) stand in that method's own file and derive from
`MethodOptions`; what every method shares stands here. The defaults that the command line shows are in `defaults.py`.
"""

import operator
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from ganomaly.defaults import (
    AUTO,
    BATCH_SIZE,
    DEVICE,
    FALSE_ALARM_RATE,
    MAP_FORMAT,
    PRECISION,
    SEED,
    Device,
    MapFormat,
    Precision,
)
from ganomaly.errors import UsageError

__all__ = [
    "AUTO",
    "BATCH_SIZE",
    "DEVICE",
    "FALSE_ALARM_RATE",
    "GRAPH_ENDINGS",
    "MAP_FORMAT",
    "PRECISION",
    "SCALE_STEPS",
    "SEED",
    "CalibrationOptions",
    "Device",
    "FitOptions",
    "MapFormat",
    "MethodOptions",
    "Options",
    "Precision",
    "Preprocessing",
    "Rate",
    "TrainingOptions",
    "first_error",
    "length_in_words",
    "parse_method_options",
]

GRAPH_ENDINGS = (".onnx", ".xml")
"""Of what `ganomaly export` writes, for ONNX Runtime and for OpenVINO; other models are safetensors."""

SCALE_STEPS = 4096
"""Images are scaled by a whole number of such parts, so that scoring and an exported graph get the same sides."""

MAX_IMAGE_SIZE = 16_384
"""Pixels a side, more than any image has that the decoder accepts."""

MAX_OPTION_TEXT = 2**16
"""Characters of an option of a method."""

MAX_VALUE_LENGTH = 60  # characters of a wrong value that a message quotes


def _whole_number(value: object) -> int:
    """Accept whole numbers, those of NumPy too, but neither text nor `True`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise PydanticCustomError("whole_number", "input should be a valid integer")
    return operator.index(value)


WholeNumber = Annotated[int, BeforeValidator(_whole_number)]
Epochs = Annotated[WholeNumber, Field(ge=1, le=10**6)]
Seed = Annotated[WholeNumber, Field(ge=0, lt=2**63)]
Rate = Annotated[float, Field(ge=1e-9, lt=1)]


def _rising(value_range: tuple[float, float]) -> tuple[float, float]:
    if not value_range[0] < value_range[1]:
        raise PydanticCustomError("rising", "the first value should be less than the second")
    return value_range


_Value = Annotated[float, Field(ge=-1e30, le=1e30)]
_ValueRange = Annotated[tuple[_Value, _Value], AfterValidator(_rising), Field(strict=False)]


class Options(BaseModel):
    """A frozen set of options that refuses unknown names and values out of range."""

    # building what checks values takes a while, and a command needs few of the options
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Build the options, or raise `UsageError` with one sentence about the first wrong value."""
        unknown = sorted(values.keys() - cls.model_fields.keys())
        if unknown:
            raise UsageError(
                f"there is no option {unknown[0]}; there are: {', '.join(sorted(cls.model_fields))}"
            )
        try:
            return cls(**values)
        except ValidationError as error:
            raise UsageError(first_error(error)) from error


def first_error(error: ValidationError) -> str:
    """The first wrong value in words: which it is, what is wrong with it, and the value, shortened."""
    first = error.errors(include_url=False)[0]
    name = " ".join(str(part) for part in first["loc"]).replace("_", " ") or error.title
    if len(name) > MAX_VALUE_LENGTH:  # that of a key that is not known
        name = f"{name[:MAX_VALUE_LENGTH]} …"
    if first["type"] == "missing":
        return f"{name} is missing"
    if first["type"] == "json_invalid":  # its input is the whole text
        return first["msg"]
    try:
        value = repr(first["input"])
    except ValueError:  # Python writes no number of more than 4,300 digits
        value = "a number of thousands of digits"
    if len(value) > MAX_VALUE_LENGTH:
        value = f"{value[:MAX_VALUE_LENGTH]} …"
    return f"{name}{described_error(first)}, got {value}"


def described_error(error: Mapping[str, Any]) -> str:
    """What is wrong with a value, in words that follow its name: `` must be a valid number``, ``: not rising``."""
    message = re.sub(", (unable to parse|got a) .*", "", error["msg"].removeprefix("Value error, "))
    message = f"{message[:1].lower()}{message[1:]}"
    if message.startswith("input should "):
        return f" must {message.removeprefix('input should ')}"
    return f": {message}"


class MethodOptions(Options):
    """What a method's own options derive from."""

    def completed(self) -> Self:
        """The options with what has to be read from files before a method can be built from them alone."""
        return self


def parse_method_options(texts: Sequence[str]) -> dict[str, str]:
    """Read options of a method as they are written on the command line, `name=value` each.

    Values stay text; the method's options convert and check them.

    Raises
    ------
    UsageError
        If one is not `name=value`, or a name is given twice.

    Examples
    --------
    >>> parse_method_options(["nz=64", "score=l1"])
    {'nz': '64', 'score': 'l1'}
    """
    options: dict[str, str] = {}
    for text in texts:
        name, separator, value = (part.strip() for part in text.partition("="))
        if not (name and separator and value):
            raise UsageError(f"cannot read the method option {text!r}; write name=value, as nz=64")
        if name in options:
            raise UsageError(f"the method option {name} is given twice; give it once")
        options[name] = value
    return options


class TrainingOptions(Options):
    """How the one training loop runs."""

    epochs: Epochs = 15
    """Passes over the training images; 15 in the authors' code."""
    steps: int | None = Field(default=None, ge=1, le=10**9)
    """Batches in all, whatever the number of images, instead of `epochs`."""
    batch_size: int = Field(default=64, ge=2, le=2**16)
    """Images per step; 64 in the authors' code. Fewer images than that make one batch."""
    seed: Seed = SEED
    """Fixes weights, order of images and the calibration split."""
    device: Device = DEVICE
    """`auto` takes a GPU where there is one."""
    precision: Precision = PRECISION
    """`auto` takes bf16 where the device computes in it, unless a long training is slower in it; fp32 elsewhere.
    Predictions are always fp32."""
    checkpoint_seconds: float = Field(default=20.0, ge=0, le=1e9)
    """At least this long between two checkpoints; 0 writes one after each step."""


def length_in_words(epochs: int | None, steps: int | None) -> str:
    """How long training is, as "1 epoch" or "1,500 steps"; `steps` counts where there are both."""
    number, unit = (epochs, "epoch") if steps is None else (steps, "step")
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


class CalibrationOptions(Options):
    """How the threshold follows from the calibration set."""

    false_alarm_rate: Rate = FALSE_ALARM_RATE
    """Share of new normal images that may be called anomalous."""
    share: Rate = 0.1
    """Share of the normal images that calibrate, where the false-alarm rate needs no more."""


class FitOptions(Options):
    """What a user may choose for `fit`; None takes the preset's value, or what the data suggest."""

    preset: str = AUTO
    """Name of a preset; `AUTO` chooses one by size and colour of the images."""
    epochs: Epochs | None = None
    """Passes over the training images."""
    image_size: Annotated[WholeNumber, Field(ge=1, le=MAX_IMAGE_SIZE)] | None = None
    """Side of the network input in pixels."""
    channels: Annotated[WholeNumber, Field(ge=1, le=4)] | None = None
    """Channels of the network input."""
    seed: Seed = SEED
    """Fixes weights, order of images and the calibration split."""
    device: Device = DEVICE
    """`auto` takes a GPU where there is one."""
    precision: Precision = PRECISION
    """Of training; predictions are always fp32."""
    false_alarm_rate: Rate = FALSE_ALARM_RATE
    """Share of new normal images that may be called anomalous."""
    ignored: str | None = None
    """Mask of the region of all images that is ignored, as `ganomaly.data.ignored_region` reads it."""
    value_range: _ValueRange | None = None
    """Of physical values, the ones that become black and white; None measures them on the training images."""
    method_options: Mapping[str, Any] = Field(default_factory=dict)
    """Options of the method that differ from the preset's."""


class Preprocessing(Options):
    """From a decoded image to the network's input; fixed by the training images and saved in the model file."""

    image_size: int = Field(ge=1, le=MAX_IMAGE_SIZE)
    """Side of the square network input in pixels. With `scale` it is the side of the patches in training."""
    scale: float | None = Field(default=None, ge=1 / SCALE_STEPS, le=1)
    """None resizes the whole image to the square. A number scales the image down by this factor, with its aspect:
    then the network takes images of any size."""
    channels: int = Field(ge=1, le=4)
    """Channels of the network input."""
    white_level: int = Field(default=255, ge=1, le=65535)
    """The value that becomes +1; 0 becomes −1. 255 for 8-bit images; 1023 … 65535 for 16-bit ones."""
    ignored: str | None = Field(default=None, max_length=MAX_OPTION_TEXT)
    """Mask of the region whose pixels are set to 0, see `ganomaly.data.ignored_region`; None for the whole image."""
    value_range: _ValueRange | None = None
    """Of images with physical values, as Hounsfield units: the values that become 0 and 65535, the white level. None
    for images of pixels alone."""

    @property
    def channels_in_words(self) -> str:
        """As `1 channel` or `3 channels`."""
        return f"{self.channels} channel{'s' if self.channels > 1 else ''}"

    @property
    def bits(self) -> int:
        """Bits per sample of the images on disk: 8 or 16."""
        return 8 if self.white_level <= 255 else 16
