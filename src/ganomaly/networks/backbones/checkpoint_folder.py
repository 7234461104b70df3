"""What ganomaly reads of a folder with a model of `transformers`: JSON and safetensors, nothing else.

The folder is the user's own, or what was downloaded from the Hugging Face hub.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ganomaly.errors import ModelFileError, UsageError, package_needed

HUB = "hf:"
_FILES = [
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
]
"""What is downloaded of a model."""


class Normalisation(NamedTuple):
    """Mean and standard deviation of RGB in [0, 1], by default ImageNet's; the input is (RGB − mean) / std."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


def locate(name: str) -> Path:
    """Find the folder of a backbone, and download it first where the hub is named and the local cache lacks it.

    Parameters
    ----------
    name : str
        `hf:ORG/NAME` or the path of a folder.

    Raises
    ------
    UsageError
        If there is no such folder, or the hub does not give it.
    """
    if not name.startswith(HUB):
        if not Path(name).is_dir():
            raise UsageError(
                f"there is no backbone {name}; name efficientnet-lite0, efficientnet-lite1, efficientnet-lite2, "
                f"{HUB}ORG/NAME for the Hugging Face hub, or a folder with config.json and model.safetensors"
            )
        return Path(name)
    with package_needed(f"the backbone {name}"):
        from huggingface_hub import snapshot_download
    try:
        # the user names the repository, at its newest version, and only data is read, no code
        folder = snapshot_download(  # nosec B615
            name.removeprefix(HUB), allow_patterns=_FILES
        )
        return Path(folder)
    except Exception as error:  # of its own kinds, and of the HTTP client below
        raise UsageError(
            f"the backbone {name} cannot be had from the Hugging Face hub ({first_line(error)}); check the name and "
            "the connection, or name a local folder"
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """The content of `config.json`; raises `ModelFileError` if it is missing or broken."""
    config = _read_json(folder / "config.json")
    if config is None or "model_type" not in config:
        raise ModelFileError(
            f"{folder} is no model of transformers: it has no config.json that names a model_type"
        )
    return config


def read_normalisation(folder: Path) -> Normalisation:
    """What `preprocessor_config.json` says of pixels; ImageNet's normalisation where it says nothing."""
    settings = _read_json(folder / "preprocessor_config.json") or {}
    mean, std = Normalisation()
    if not settings.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    elif settings.get("image_mean") and settings.get("image_std"):
        mean, std = settings["image_mean"], settings["image_std"]
    white = 255 * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 255.0
    return Normalisation(tuple(value / white for value in mean), tuple(value / white for value in std))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of `model.safetensors`, or of the files in its index.

    Raises
    ------
    ModelFileError
        If they are missing, pickled or damaged.
    """
    index = _read_json(folder / "model.safetensors.index.json")
    names = {"model.safetensors"} if index is None else set(index["weight_map"].values())
    weights: dict[str, Tensor] = {}
    for path in sorted(folder / Path(name).name for name in names):
        if not path.is_file():
            raise _missing(folder, path)
        try:
            weights |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelFileError(
                f"the weights {path} are damaged ({error}); copy or download them again"
            ) from error
    return weights


def _missing(folder: Path, path: Path) -> ModelFileError:
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    if pickles:
        return ModelFileError(
            f"{folder} has its weights in {pickles[0]} only; that is a pickle, which may run code and is never read, "
            "so save them as safetensors"
        )
    return ModelFileError(f"{folder} has no weights: there is no {path.name}")


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None if there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ModelFileError(f"{path} cannot be read (it holds no JSON object)")
    return content


def first_line(error: Exception) -> str:
    """What a library's exception says, for a message of one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
