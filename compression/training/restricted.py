"""Parameters that an encoding restricts, while they are trained: an optimizer moves the free values behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from compression.encodings import Encoding, Learned


@dataclass
class Restricted:
    """A parameter that an encoding restricts, and the free values behind it."""

    parameter: nn.Parameter
    encoding: Encoding | Learned
    free: nn.Parameter

    def pull(self) -> None:
        """Takes the gradient from the parameter to its free values, and adds it to that of their penalty."""
        gradient, self.parameter.grad = self.parameter.grad, None
        if gradient is not None:
            self.encoding.value(self.free).backward(gradient)  # type: ignore[no-untyped-call]

    def restrict(self, encoding: Encoding) -> None:
        """Obeys another encoding of the same free values from now on."""
        self.encoding = encoding
        self.push()

    def push(self) -> None:
        with torch.no_grad():
            self.parameter.copy_(self.encoding.value(self.free))


def restricted(module: nn.Module, encodings: Mapping[str, Encoding | Learned]) -> dict[str, Restricted]:
    parameters = dict(module.named_parameters())
    return {
        name: Restricted(parameters[name], encoding, nn.Parameter(encoding.free(parameters[name].detach())))
        for name, encoding in encodings.items()
    }
