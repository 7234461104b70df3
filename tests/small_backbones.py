"""Small models of transformers, as their makers would save them."""

from pathlib import Path
from typing import Any

import torch

from ganomaly.networks.backbones import Level


def _resnet() -> Any:
    import transformers

    return transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], layer_type="basic"
        )
    )


def _convnext() -> Any:
    import transformers

    return transformers.ConvNextForImageClassification(
        transformers.ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1])
    )


def _swin() -> Any:
    import transformers

    return transformers.SwinForImageClassification(
        transformers.SwinConfig(
            embed_dim=8, depths=[1, 1, 2], num_heads=[1, 2, 4], window_size=4, image_size=64
        )
    )


def _dinov2() -> Any:
    import transformers

    return transformers.Dinov2Model(
        transformers.Dinov2Config(
            hidden_size=16, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14
        )
    )


def _dinov3() -> Any:
    import transformers

    return transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=64
        )
    )


MODELS = {"resnet": _resnet, "convnext": _convnext, "swin": _swin, "dinov2": _dinov2, "dinov3": _dinov3}
LEVELS = {
    "resnet": {
        "stem": Level(4, 8),
        "stage1": Level(4, 8),
        "stage2": Level(8, 12),
        "stage3": Level(16, 16),
        "stage4": Level(32, 20),
    },
    "swin": {"stem": Level(4, 8), "stage1": Level(4, 8), "stage2": Level(8, 16), "stage3": Level(16, 32)},
    "dinov2": {name: Level(14, 16) for name in ("stem", "stage1", "stage2", "stage3")},
    "dinov3": {name: Level(16, 16) for name in ("stem", "stage1", "stage2", "stage3")},
}
LEVELS["convnext"] = LEVELS["resnet"]


def save_small_models(root: Path) -> dict[str, Path]:
    """Save each of the models with random weights in a folder of its own; classifiers with their classifier."""
    for name, make in MODELS.items():
        torch.manual_seed(0)
        model = make()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, mean=0.0 if parameter.ndim > 1 else 1.0, std=0.3)
        model.save_pretrained(root / name)
    return {name: root / name for name in MODELS}
