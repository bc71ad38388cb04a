"""`Network`: the one representation that every engine works on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from compression.encodings import Encoding
from compression.errors import VerificationError


@dataclass(frozen=True)
class Input:
    """One named input: `shape` without the batch axis, which is always free and always first; `dtype` as "float32"."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Signature:
    """The named inputs and outputs. A module returns a tensor when it has one output, else a tuple."""

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...] = ("output",)


@dataclass(frozen=True)
class Variant:
    """One way to run a network: the outputs that it computes, by index. The rest of the graph is left out."""

    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """A lifted graph (fp32, CPU, eval mode) with what was added to it.

    `module` is an `fx.GraphModule` made of `compression.vocabulary` alone. Methods never change a network they are
    given: they `copy()` and return a new one. `encodings` are keyed by parameter name as in `named_parameters()`.
    `provenance` is JSON: the format it came in, and every step applied since. `delivery` is how its files are written
    where that was asked for, JSON by format ({"nwk": {"coder": "range"}}); such a format is delivered in any case.
    """

    module: fx.GraphModule
    signature: Signature
    encodings: Mapping[str, Encoding] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    provenance: tuple[Mapping[str, Any], ...] = ()
    delivery: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.variants:
            object.__setattr__(self, "variants", {"full": Variant(tuple(range(len(self.signature.outputs))))})
        parameters = dict(self.module.named_parameters())
        unknown = set(self.encodings) - set(parameters)
        if unknown:
            raise VerificationError("an encoding names no parameter", min(unknown))

    def copy(self) -> Network:
        return replace(self, module=copy.deepcopy(self.module))

    def replaced(self, **changes: Any) -> Network:
        return replace(self, **changes)

    def project(self) -> None:
        """Brings the module's parameters to the nearest ones that obey their encodings, in place."""
        parameters = dict(self.module.named_parameters())
        with torch.no_grad():
            for name, encoding in self.encodings.items():
                parameters[name].copy_(encoding.value(encoding.free(parameters[name])))

    def variant(self, name: str) -> fx.GraphModule:
        """The module that computes only the outputs of the variant `name`; it shares this network's parameters."""
        wanted = self.variants[name].outputs
        if wanted == tuple(range(len(self.signature.outputs))):
            return self.module
        graph = copy.deepcopy(self.module.graph)
        output = next(node for node in graph.nodes if node.op == "output")
        chosen = tuple(output.args[0][index] for index in wanted)
        output.args = (chosen[0] if len(chosen) == 1 else chosen,)
        module = fx.GraphModule(self.module, graph)
        module.graph.eliminate_dead_code()  # which asks the module whether a call is pure
        module.recompile()
        module.delete_all_unused_submodules()
        return module.eval()

    def example(self, batch: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Seeded inputs: normal values, or zeros and ones for integers (valid for any embedding of two rows). Each row
        of several begins with one and ends with zero, so that a mask, whatever its sense, never hides all of it."""
        generator = torch.Generator().manual_seed(seed)
        values = []
        for spec in self.signature.inputs:
            dtype = getattr(torch, spec.dtype)
            shape = (batch, *spec.shape)
            if dtype.is_floating_point:
                values.append(torch.randn(shape, generator=generator, dtype=dtype))
            else:
                value = torch.randint(0, 2, shape, generator=generator)
                if spec.shape and spec.shape[-1] > 1:
                    value[..., 0], value[..., -1] = 1, 0
                values.append(value.to(dtype))
        return tuple(values)

    def layers(self) -> dict[str, nn.Module]:
        """The leaf modules by name that hold parameters, in the order in which the graph calls them."""
        modules = dict(self.module.named_modules())
        called = [str(node.target) for node in self.module.graph.nodes if node.op == "call_module"]
        return {name: modules[name] for name in dict.fromkeys(called) if list(modules[name].parameters(recurse=False))}


def as_tuple(output: Any) -> tuple[Tensor, ...]:
    """The outputs of a module as a tuple, whether it returned one tensor or several."""
    return tuple(output) if isinstance(output, tuple | list) else (output,)
