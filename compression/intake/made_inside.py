"""What a call makes besides its result: an einsum, or a product of broadcast tensors, may copy more than it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class MadeInside(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, `largest` is the bytes of the largest value that an operator made, of those that calls are
    put together from. Tensors without memory behind them (fake, meta) are counted as if they had it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and storage(leaf) not in given]
        self.largest = max([self.largest, *(leaf.untyped_storage().nbytes() for leaf in made)])
        return result


def storage(tensor: Tensor) -> int:
    """What all views of the same memory have in common."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - it has no public name, and a fake has no address
