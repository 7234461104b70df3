"""What all backbones have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from ganomaly.errors import UsageError
from ganomaly.networks.tiling import reflect_to_multiple


class Level(NamedTuple):
    """A feature map of a backbone."""

    stride: int
    """Pixels of the input between two neighbouring positions."""
    channels: int


class Backbone(nn.Module, ABC):
    """A frozen, pretrained network that gives feature maps.

    Its parameters need no gradients, and it stays in eval mode, whatever mode the module around it is in.

    Parameters
    ----------
    name : str
        For people, and in the description.
    levels : mapping of str to Level
        The levels that it can give, in order of depth.
    """

    def __init__(self, name: str, levels: Mapping[str, Level]) -> None:
        super().__init__()
        self.name = name
        self.levels = dict(levels)

    def forward(self, x: Tensor, levels: Sequence[str]) -> list[Tensor]:
        """Compute feature maps; tensors alone, so that it can be exported with sides of any length.

        Parameters
        ----------
        x : Tensor
            `float[N, C, H, W]` in [−1, 1]; C is 3, or 1 for gray images. Any height and width.
        levels : sequence of str
            Of `self.levels`.

        Returns
        -------
        list of Tensor
            One `float[N, channels, h, w]` for each of the levels, in their order. The image is mirrored to the right
            and below up to the next multiples of the largest stride of `self.levels`, H′ and W′; h is H′ / stride.
            Position i stands for the pixels from i · stride to (i + 1) · stride.
        """
        multiple = max(level.stride for level in self.levels.values())
        if torch.compiler.is_exporting() or any(side % multiple for side in x.shape[2:]):
            x = reflect_to_multiple(x, multiple, margin=0)
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        features = self._features(x, set(levels))
        return [features[level] for level in levels]

    @abstractmethod
    def _features(self, x: Tensor, levels: set[str]) -> Mapping[str, Tensor]:
        """Feature maps of at least these levels, from `float[N, 3, H, W]` in [−1, 1]; all strides divide H and W."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Everything but the weights, for JSON; `build_backbone` builds the same network from it."""

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    def _freeze(self) -> None:
        self.requires_grad_(False)
        self.eval()


def selected_levels(backbone: str, names: Iterable[str], available: Mapping[str, Level]) -> dict[str, Level]:
    """Select levels of a backbone by name, in order of depth.

    Raises
    ------
    UsageError
        If there is no such level, or none is named.
    """
    names = set(names)
    unknown = sorted(names - set(available))
    if unknown or not names:
        problem = f"has no level {', '.join(unknown)}" if unknown else "needs at least one level"
        raise UsageError(f"the backbone {backbone} {problem}; its levels are {', '.join(available)}")
    return {name: level for name, level in available.items() if name in names}
