"""Fixtures of several methods' tests."""

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


@pytest.fixture
def enlarge_weights() -> Callable[[M], M]:
    """Multiply a method's initial weights, so that they are as large as trained ones.

    With initial weights, latents and logits are so near to 0 that a wrong sign or a missing factor would not matter.
    """

    def enlarge(method: M) -> M:
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.dim() == 4:
                    parameter.mul_(8)
        return method

    return enlarge
