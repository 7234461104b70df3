"""The methods, by name: one file each, and one line in `METHODS`."""

from difflib import get_close_matches

from ganomaly.errors import UsageError
from ganomaly.methods.anogan import AnoGAN
from ganomaly.methods.base import BatchPrediction, Method, Patches, Precision, Preset, Step
from ganomaly.methods.contrastive_ganomaly import ContrastiveGANomaly
from ganomaly.methods.egbad import EGBAD
from ganomaly.methods.f_anogan import FAnoGAN
from ganomaly.methods.feature_ganomaly import FeatureGANomaly
from ganomaly.methods.ganomaly import GANomaly
from ganomaly.methods.patch_ganomaly import PatchGANomaly
from ganomaly.methods.skip_ganomaly import SkipGANomaly
from ganomaly.methods.vae import VAE

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        GANomaly,  # Akcay et al., ACCV 2018
        FeatureGANomaly,  # GANomaly over the feature maps of a pretrained network
        PatchGANomaly,  # GANomaly for patches of images of any size
        ContrastiveGANomaly,  # GANomaly for small images of many kinds
        AnoGAN,  # Schlegl et al., IPMI 2017
        EGBAD,  # Zenati et al., 2018
        VAE,  # Kingma & Welling, ICLR 2014; scored after An & Cho, 2015
        SkipGANomaly,  # Akcay et al., IJCNN 2019
        FAnoGAN,  # Schlegl et al., Medical Image Analysis 2019
    )
}


def find_method(name: str) -> type[Method]:
    """Find a method by its name.

    Raises
    ------
    UsageError
        If there is none with this name; the message lists the names.
    """
    if name not in METHODS:
        method = next((each.name for each in METHODS.values() if name in each.presets), None)
        if method is not None:
            raise UsageError(f"{name!r} is a preset of the method {method}; name the method")
        raise UsageError(f"unknown method {name!r}; there are: {', '.join(sorted(METHODS))}")
    return METHODS[name]


def find_preset(name: str) -> tuple[type[Method], Preset]:
    """Find a preset by its name, over all methods.

    Raises
    ------
    UsageError
        If there is none with this name; the message lists the names.
    """
    methods = {preset: method for method in METHODS.values() for preset in method.presets}
    if name not in methods:
        near = get_close_matches(name, methods, n=1)
        meant = f"did you mean {near[0]}? There" if near else "there"
        raise UsageError(f"unknown preset {name!r}; {meant} are: {', '.join(sorted(methods))}")
    return methods[name], methods[name].presets[name]


__all__ = [
    "METHODS",
    "BatchPrediction",
    "Method",
    "Patches",
    "Precision",
    "Preset",
    "Step",
    "find_method",
    "find_preset",
]
