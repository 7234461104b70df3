"""Backbones of `transformers`.

`transformers` gets tensors and the settings that the architecture itself declares, never the folder with the model.
So nothing in the folder can make it download or run anything.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ganomaly.errors import ModelFileError, UsageError, package_needed
from ganomaly.networks.backbones.base import Backbone, Level, selected_levels
from ganomaly.networks.backbones.checkpoint_folder import (
    HUB,
    Normalisation,
    first_line,
    locate,
    read_config,
    read_normalisation,
    read_weights,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

MAX_WEIGHTS = 2 * 10**9
"""Of a backbone in a model file."""

Settings = dict[str, Any]
"""What an architecture declares, and its `model_type`, for JSON."""

_DEPTH_SETTINGS = {
    "resnet": ("depths", "hidden_sizes"),
    "convnext": ("depths", "hidden_sizes", "num_stages"),
    "convnextv2": ("depths", "hidden_sizes", "num_stages"),
    "dinov3_convnext": ("depths", "hidden_sizes"),
    "dinov2": ("num_hidden_layers",),
    "dinov2_with_registers": ("num_hidden_layers",),
    "dinov3_vit": ("num_hidden_layers",),
}
"""Settings that end a network early, of architectures whose feature maps do not depend on the stages after."""


class TransformersBackbone(Backbone):
    """A backbone of `transformers` with its input normalisation.

    Parameters
    ----------
    name : str
        For people, and in the description.
    levels : mapping of str to Level
        Its feature maps, in order of depth.
    network : PreTrainedModel
        Gives these feature maps.
    normalisation : Normalisation
        Of its input.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        levels: Mapping[str, Level],
        network: "PreTrainedModel",
        normalisation: Normalisation,
    ) -> None:
        super().__init__(name, levels)
        self.network = network
        self.normalisation = normalisation
        for key, values in normalisation._asdict().items():
            self.register_buffer(key, torch.tensor(values, device="cpu").view(1, 3, 1, 1), persistent=False)
        self._freeze()

    def describe(self) -> dict[str, Any]:
        """Name, levels, normalisation and the architecture's settings."""
        return {
            "name": self.name,
            "levels": {name: list(level) for name, level in self.levels.items()},
            **{key: list(values) for key, values in self.normalisation._asdict().items()},
            "config": _all_settings(self.network.config),
        }

    def _features(self, x: Tensor, levels: set[str]) -> dict[str, Tensor]:
        output = self.network(((x + 1) / 2 - self.mean) / self.std)
        return dict(zip(self.levels, output.feature_maps, strict=True))


def load(name: str, levels: Iterable[str]) -> TransformersBackbone:
    """Load a pretrained backbone from `hf:ORG/NAME` or a folder; raises what `load_backbone` does."""
    folder = locate(name)
    settings = _read_settings(folder)
    chosen = selected_levels(name, levels, _measured_levels(folder, settings))
    config = _config(_up_to(settings, list(chosen)[-1]), list(chosen))
    network = _pretrained(folder, config)
    name = name if name.startswith(HUB) else folder.resolve().name
    return TransformersBackbone(name, chosen, network, read_normalisation(folder))


def levels_of(name: str) -> dict[str, Level]:
    """All levels of `hf:ORG/NAME` or a folder by name, in order of depth."""
    folder = locate(name)
    return _measured_levels(folder, _read_settings(folder))


def build(description: Mapping[str, Any]) -> TransformersBackbone:
    """Build the backbone of a description; `load_state_dict` has to bring its weights.

    It is in memory, on the meta device too, because buffers that are no weights, such as the frequencies of a
    position encoding, are in no file. A description of more than `MAX_WEIGHTS` is refused first.
    """
    name = description.get("name", "")
    with package_needed(f"the backbone {name}"):
        import transformers
    try:
        levels = {level: Level(*values) for level, values in description["levels"].items()}
        normalisation = Normalisation(tuple(description["mean"]), tuple(description["std"]))
        config = _config(description["config"], list(levels))
        with torch.device("meta"):
            n_weights = sum(weight.numel() for weight in _network(config).parameters())
        if n_weights > MAX_WEIGHTS:
            raise ValueError(f"it has {n_weights:,} weights")
        # its first weights are random, and never used
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            network = _network(config)
    except Exception as error:  # whatever transformers raises for settings of another version
        raise ModelFileError(
            f"the backbone {name} cannot be built with transformers {transformers.__version__} "
            f"({first_line(error)}); install the version that the model was trained with"
        ) from error
    return TransformersBackbone(name, levels, network, normalisation)


def _read_settings(folder: Path) -> Settings:
    """The settings of a folder's model."""
    content = read_config(folder)
    with package_needed(f"the backbone {folder}"):
        import transformers
    try:
        settings = _all_settings(transformers.AutoConfig.for_model(**_declared(content)))
    except Exception as error:  # whatever transformers raises
        raise ModelFileError(
            f"the config.json in {folder} is of no model that transformers {transformers.__version__} knows "
            f"({first_line(error)})"
        ) from error
    if settings.get("num_channels", 3) != 3:
        raise UsageError(
            f"the backbone {folder} takes images of {settings['num_channels']} channels; name one for colour images"
        )
    return settings


def _all_settings(config: "PreTrainedConfig") -> Settings:
    settings: Settings = json.loads(json.dumps(_declared(config.to_dict())))
    return settings


def _declared(content: Mapping[str, Any]) -> Settings:
    """Keep what the architecture itself declares: no reference to code, kernels, quantisation or other models."""
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    config_type = CONFIG_MAPPING[content["model_type"]]
    general = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    names = {field.name for field in dataclasses.fields(config_type)} | set(config_type.attribute_map)
    names -= general | set(config_type.sub_configs)
    declared = {name: value for name, value in content.items() if name in names}
    return {"model_type": content["model_type"], **declared}


def _config(settings: Settings, levels: list[str]) -> "PreTrainedConfig":
    """The configuration of a network that gives these levels."""
    from transformers import AutoConfig

    if settings["model_type"] == "timm_backbone":
        raise ValueError("timm's models load themselves")
    config = AutoConfig.for_model(**_declared(settings))
    config.out_features = levels
    return config


def _network(config: "PreTrainedConfig") -> "PreTrainedModel":
    from transformers import AutoBackbone

    return AutoBackbone.from_config(config, trust_remote_code=False, dtype=torch.float32).eval()


def _up_to(settings: Settings, level: str) -> Settings:
    """The settings of a network that ends with a level, of architectures of which that is known to be safe."""
    from transformers import AutoConfig

    # DINOv3 normalises its last stage in any case, and the others only if told to
    safe = settings.get("apply_layernorm", True)
    names = _DEPTH_SETTINGS.get(settings["model_type"], ()) if safe else ()
    stages = max(1, AutoConfig.for_model(**settings).stage_names.index(level))  # the stem is number 0
    until = {name: value[:stages] if isinstance(value := settings[name], list) else stages for name in names}
    return {**settings, **until}


def _measured_levels(folder: Path, settings: Settings) -> dict[str, Level]:
    """All levels of a network, measured by a pass without memory and arithmetic."""
    from transformers import AutoConfig

    patch = settings.get("patch_size") or 4
    side = 32 * (patch[0] if isinstance(patch, list) else patch)
    try:
        names = list(AutoConfig.for_model(**settings).stage_names)
        with torch.device("meta"):
            maps = _network(_config(settings, names))(torch.zeros(1, 3, side, side)).feature_maps
        levels = {
            name: Level(side // feature_map.shape[2], feature_map.shape[1])
            for name, feature_map in zip(names, maps, strict=True)
            if side % feature_map.shape[2] == 0 and feature_map.shape[2] == feature_map.shape[3]
        }
    except Exception as error:  # whatever transformers raises
        raise UsageError(
            f"the model in {folder} cannot be used as a backbone ({first_line(error)})"
        ) from error
    return levels


def _pretrained(folder: Path, config: "PreTrainedConfig") -> "PreTrainedModel":
    """The network with the weights in a folder, which must be complete."""
    weights = read_weights(folder)
    with torch.device("meta"):
        network_type = type(_network(config))
    with _quiet(), torch.random.fork_rng(devices=[]):
        network, report = network_type.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below
        )
    # the norms of a backbone's feature maps, which a classifier lacks, scale by 1 then
    unfit = {key for key in report["missing_keys"] if "hidden_states_norms" not in key}
    unfit |= {key for key, *_ in report["mismatched_keys"]}
    if unfit:
        raise ModelFileError(
            f"the weights in {folder} do not fit its config.json: {min(unfit)} is missing or of another shape"
        )
    return network


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide progress bars, and the report on the weights of the classifier, which are not used."""
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()
