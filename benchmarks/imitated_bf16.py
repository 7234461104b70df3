"""bf16 as processors with bf16 instructions compute it, imitated on a processor without them.

The factors are bf16 and the product is rounded to bf16, as `torch.autocast` asks for; sums are computed in fp32.
PyTorch's own kernels for processors without bf16 compute the same, many times slower.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_aten = torch.ops.aten
PRODUCTS = {
    _aten.convolution.default,
    _aten.convolution_backward.default,
    _aten.mm.default,
}


class ImitatedBf16(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch leaves its __init_subclass__ untyped
    """A context in which convolutions and matrix products of bf16 tensors are computed in fp32 and rounded."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Compute one of PyTorch's operations."""
        kwargs = kwargs or {}
        if func not in PRODUCTS or args[0].dtype != torch.bfloat16:
            return func(*args, **kwargs)
        exact = func(
            *tree_map_only(Tensor, Tensor.float, args), **tree_map_only(Tensor, Tensor.float, kwargs)
        )
        return tree_map_only(Tensor, Tensor.bfloat16, exact)
