"""bf16 as instructions for it compute, on a processor that has none.

Factors are bf16 and the product is rounded to bf16, as `torch.autocast` asks for it; in between the sums are taken in
fp32. PyTorch's own kernels for such processors compute the same, many times slower.
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
    _aten.mm.out,
    _aten.bmm.default,
    _aten.addmm.default,
}


class ImitatedBf16(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch leaves its __init_subclass__ untyped
    """While it is entered, convolutions and matrix products of bf16 tensors are computed in fp32 and rounded."""

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
        out = kwargs.pop("out", None)
        operation = func if out is None else func.overloadpacket
        exact = operation(
            *tree_map_only(Tensor, Tensor.float, args), **tree_map_only(Tensor, Tensor.float, kwargs)
        )
        return tree_map_only(Tensor, Tensor.bfloat16, exact) if out is None else out.copy_(exact)
