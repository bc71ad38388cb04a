"""Shapes of every value of a graph, found without computing any: how an untrusted graph is tried before it is run."""

from __future__ import annotations

import copy
import logging
import math
import operator
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from compression.errors import IntakeError
from compression.intake.made_inside import MadeInside, storage
from compression.network import Input, as_tuple

Value: TypeAlias = Any  # of a node: a tensor, a number, a tuple of tensors

LARGEST_VALUE = 2**30
"""Elements that one intermediate value may have; more is refused before it is allocated."""

LARGEST_LIVE = 512 << 20
"""Bytes of intermediate values that may be alive at the same time."""

LARGEST_OUTPUTS = 128 << 20
"""Bytes of all outputs together: they are held twice while they are compared."""

MOST_NODES = 10_000

MOST_PARTS = 4096
"""Tensors that one operator may cut a value into."""

MOST_STEPS = 4096
"""Of a recurrent layer: even its shapes are found step by step."""

RUN_ERRORS = (
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
)
"""What running a graph that doesn't fit its values can raise."""

logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)  # a misfit is reported by our error alone

_ARITHMETIC = {getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "neg")}


def shapes(module: fx.GraphModule, inputs: Iterable[Input], batch: int) -> dict[fx.Node, Value]:
    """Every node's value for a batch of `inputs`, with tensors as shapes only (fake tensors, no memory behind them).

    IntakeError (`where` = the node): the graph doesn't fit these inputs, or would take absurdly much.
    """
    if len(module.graph.nodes) > MOST_NODES:
        raise IntakeError(f"a graph of more than {MOST_NODES} operators", kind="model-unsafe")
    mode = FakeTensorMode()
    fakes = {id(tensor): mode.from_tensor(tensor) for tensor in [*module.parameters(), *module.buffers()]}
    trial = _Trial(copy.deepcopy(module, fakes), batch)
    with mode, trial.inside:
        trial.run(*[_input(spec, batch) for spec in inputs])
    by_name = {node.name: node for node in module.graph.nodes}
    return {by_name[name]: value for name, value in trial.values.items()}


def run(module: fx.GraphModule, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The outputs for `inputs`, which stay as they are. IntakeError: the model fails on them."""
    try:
        with torch.no_grad():
            outputs = as_tuple(module(*[value.clone() for value in inputs]))
    except RUN_ERRORS as error:
        raise IntakeError(f"the model does not run: {str(error)[:300]}") from error
    if not all(isinstance(value, Tensor) for value in outputs):
        raise IntakeError("an output is no tensor")
    return outputs


def _input(spec: Input, batch: int) -> Tensor:
    if min(spec.shape, default=0) < 0 or batch * math.prod(spec.shape) > LARGEST_VALUE:
        raise IntakeError("an input of an impossible shape", spec.name)
    return torch.empty((batch, *spec.shape), dtype=getattr(torch, spec.dtype))


class _Trial(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, batch: int) -> None:
        super().__init__(module)
        self.values: dict[str, Value] = {}
        self.extra_traceback = False
        self.batch = batch
        self.stored = {storage(tensor) for tensor in (*module.parameters(), *module.buffers())}
        self.holders: Counter[int] = Counter()  # of each storage: the values in use that are views of it
        self.live = 0  # bytes
        self.inside = MadeInside()

    def run_node(self, n: fx.Node) -> Value:
        try:
            if n.target in _ARITHMETIC and not all(isinstance(v, Tensor | int | float) for v in self._arguments(n)):
                raise TypeError("arithmetic takes tensors and numbers")  # not "%9999999d" % 1 or [0] * 2**40
            self._bound_parts(n)
            self.inside.largest = 0
            with torch.no_grad():
                value = super().run_node(n)
        except RUN_ERRORS as error:
            raise IntakeError(f"the graph does not fit its inputs: {str(error)[:300]}", n.name) from error
        for part in value if isinstance(value, tuple | list) else (value,):
            elements = part.numel() if isinstance(part, Tensor) else abs(part) if isinstance(part, int) else 0
            if elements > LARGEST_VALUE:
                raise IntakeError(f"a value of {elements} elements: too large", n.name, kind="model-unsafe")
        self.values[n.name] = value
        self._count_live(n, value)
        return value

    def _count_live(self, n: fx.Node, value: Value) -> None:
        """Adds the value's memory, and takes away that of the values which are not used after this node."""
        most = self.live + self.inside.largest
        for tensor in _tensors(value):
            if storage(tensor) not in self.stored:
                self.live += 0 if self.holders[storage(tensor)] else tensor.untyped_storage().nbytes()
                self.holders[storage(tensor)] += 1
        most = max(most, self.live)
        if most > LARGEST_LIVE:
            message = f"{most >> 20} MiB of values in use at once, at a batch of {self.batch}"
            raise IntakeError(f"{message}: at most {LARGEST_LIVE >> 20} MiB can be", n.name, kind="model-unsafe")
        if n.op == "output" and (held := sum(t.numel() * t.element_size() for t in _tensors(value))) > LARGEST_OUTPUTS:
            message = f"{held >> 20} MiB of outputs at a batch of {self.batch}"
            raise IntakeError(f"{message}: at most {LARGEST_OUTPUTS >> 20} MiB can be", n.name, kind="model-unsafe")
        for ended in self.user_to_last_uses.get(n, []) if n.users else [*self.user_to_last_uses.get(n, []), n]:
            for tensor in _tensors(self.values.get(ended.name)):
                if storage(tensor) not in self.stored:
                    self.holders[storage(tensor)] -= 1
                    self.live -= 0 if self.holders[storage(tensor)] else tensor.untyped_storage().nbytes()

    def _bound_parts(self, n: fx.Node) -> None:
        """Operators that cut a tensor into parts make an object for each."""
        name = getattr(n.target, "overloadpacket", n.target)
        leaf = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        if isinstance(leaf, nn.RNNBase) or getattr(name, "__name__", "") in {"lstm", "gru"}:
            self._bound_steps(n)
        if getattr(name, "__name__", "") not in {"chunk", "split", "split_with_sizes", "unbind"}:
            return
        value, *rest = self._arguments(n)
        if isinstance(value, Tensor) and max(value.shape, default=0) > MOST_PARTS and not _few(value, rest):
            raise IntakeError(f"a tensor cut into more than {MOST_PARTS} parts", n.name, kind="model-unsafe")

    def _bound_steps(self, n: fx.Node) -> None:
        value = self._arguments(n)[0]
        if isinstance(value, Tensor) and max(value.shape[:2], default=0) > MOST_STEPS:
            raise IntakeError(f"a sequence of more than {MOST_STEPS} steps", n.name, kind="model-unsafe")

    def _arguments(self, n: fx.Node) -> tuple[Value, ...]:
        return self.fetch_args_kwargs_from_env(n)[0]


def _tensors(value: Value) -> list[Tensor]:
    return [part for part in (value if isinstance(value, tuple | list) else (value,)) if isinstance(part, Tensor)]


def _few(value: Tensor, rest: list[Value]) -> bool:
    """Whether `chunk` or `split`, given a number first, surely makes few parts (`unbind` is given an axis alone)."""
    if len(rest) < 2 or not isinstance(rest[0], int):
        return bool(rest) and isinstance(rest[0], list | tuple) and len(rest[0]) <= MOST_PARTS
    return rest[0] > 0 and max(rest[0], max(value.shape) // rest[0]) <= MOST_PARTS
