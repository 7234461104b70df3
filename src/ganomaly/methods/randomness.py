"""Random numbers for training that are the same in a resumed run."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor, nn


class Randomness(nn.Module):
    """A source of random numbers whose state is part of the method's state dict.

    The state is a seed and the number of draws so far, and each draw has its own generator, seeded with both. So the
    state is two integers, the numbers are the same on every device, and no draw waits for a device.

    Parameters
    ----------
    generator : Generator
        Source of the seed.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
        self.draws = 0

    def normal(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Draw from N(0, 1): `float32` of this shape."""
        return torch.from_numpy(self.next_generator().standard_normal(shape, dtype=np.float32)).to(device)

    def uniform(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Draw from [0, 1): `float32` of this shape."""
        return torch.from_numpy(self.next_generator().random(shape, dtype=np.float32)).to(device)

    def get_extra_state(self) -> Tensor:
        """The state for the state dict: seed and draws, `int64[2]` on the processor."""
        return torch.tensor([self.seed, self.draws])

    def set_extra_state(self, state: Tensor) -> None:
        """Restore a state of `get_extra_state`."""
        self.seed, self.draws = (int(value) for value in state)

    def next_generator(self) -> np.random.Generator:
        """A new generator, for the next draw."""
        self.draws += 1
        return np.random.default_rng([self.seed, self.draws])
