"""Names of options and tensors in model files and graphs of earlier versions, and their names today.

An option or a module that gets another name needs a row here, or files of earlier versions no longer load.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # exported graphs are read without PyTorch
    from torch import Tensor

# of format version 1, by method
OPTIONS: Mapping[str, Mapping[str, str]] = {
    "patch-ganomaly": {
        "rebuilt_share": "reconstruction_share",
        "spotting_weight": "segmentation_weight",
    },
    "contrastive-ganomaly": {
        "rebuilt_share": "reconstruction_share",
        "telling_weight": "real_fake_weight",
        "smallest_crop": "min_crop",
    },
}
# a tensor, or a module with all its tensors
TENSORS: Mapping[str, Mapping[str, str]] = {
    "patch-ganomaly": {
        "channel_mean": "normalisation.channel_mean",
        "channel_spread": "normalisation.channel_std",
        "contrast": "normalisation.local_contrast",
        "discriminator.truth": "discriminator.real_fake_head",
        "discriminator.spot": "discriminator.segmentation_head",
        "scales.0.latent_mean": "scoring.scales.0.latent_whitening.mean",
        "scales.0.latent_whitening": "scoring.scales.0.latent_whitening.matrix",
        "scales.0.bank.mean": "scoring.scales.0.bank.whitening.mean",
        "scales.0.bank.whitening": "scoring.scales.0.bank.whitening.matrix",
        "scales.0.bank.comparison": "scoring.scales.0.bank.comparison",
        "scales.1.latent_mean": "scoring.scales.1.latent_whitening.mean",
        "scales.1.latent_whitening": "scoring.scales.1.latent_whitening.matrix",
        "scales.1.bank.mean": "scoring.scales.1.bank.whitening.mean",
        "scales.1.bank.whitening": "scoring.scales.1.bank.whitening.matrix",
        "scales.1.bank.comparison": "scoring.scales.1.bank.comparison",
        "places.edge_mean": "scoring.positions.edge_mean",
        "places.edge_reach": "scoring.positions.edge_scale",
        "places.grid_mean": "scoring.positions.grid_mean",
        "places.grid_reach": "scoring.positions.grid_scale",
        "sizes.sizes": "scoring.sizes.log_sizes",
        "sizes.usual": "scoring.sizes.mean",
        "sizes.spread": "scoring.sizes.std",
    },
    "contrastive-ganomaly": {
        "channel_spread": "channel_std",
        "usual": "reference_mean",
        "spread": "reference_std",
        "neighbourhoods.0.mean": "banks.0.axes.mean",
        "neighbourhoods.0.axes": "banks.0.axes.matrix",
        "neighbourhoods.0.bank": "banks.0.features",
        "neighbourhoods.0.apart": "banks.0.local_scale",
        "neighbourhoods.1.mean": "banks.1.axes.mean",
        "neighbourhoods.1.axes": "banks.1.axes.matrix",
        "neighbourhoods.1.bank": "banks.1.features",
        "neighbourhoods.1.apart": "banks.1.local_scale",
        "neighbourhoods.2.mean": "banks.2.axes.mean",
        "neighbourhoods.2.axes": "banks.2.axes.matrix",
        "neighbourhoods.2.bank": "banks.2.features",
        "neighbourhoods.2.apart": "banks.2.local_scale",
    },
}


def upgraded(
    method: str, options: Mapping[str, Any], tensors: Mapping[str, "Tensor"]
) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    """Options and weights of a file of format version 1 by today's names.

    Parameters
    ----------
    method : str
        The method by its name on the command line.
    options : mapping of str to JSON value
        The method's options.
    tensors : mapping of str to Tensor
        The method's state dict.
    """
    option_names, tensor_names = OPTIONS.get(method, {}), TENSORS.get(method, {})
    return (
        {option_names.get(name, name): value for name, value in options.items()},
        {_renamed(name, tensor_names): tensor for name, tensor in tensors.items()},
    )


def _renamed(name: str, names: Mapping[str, str]) -> str:
    for earlier, now in names.items():
        if name == earlier or name.startswith(f"{earlier}."):
            return now + name.removeprefix(earlier)
    return name
