"""The graph that an import builds, and what is known of each value while it is built.

Every value is tried at two batch sizes at once. A value that doesn't follow from the inputs is *known*: its numbers are
here, computed with torch as the graph would, and at each of the two batches (a shape that was asked for may hold the
batch). Any other value is a node, of which the shapes are known: meta tensors, with no memory behind them. So
shape arithmetic folds by itself, and no value is allocated before its size is known.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from compression.encodings import Encoding
from compression.errors import IntakeError
from compression.intake.made_inside import MadeInside
from compression.intake.onnx.naming import tensor_path
from compression.intake.onnx.value import (
    LARGEST_VALUE,
    Argument,
    CannotLift,
    Length,
    Value,
    bound_elements,
    values_in,
    varies,
)
from compression.intake.places import Places
from compression.intake.shapes import RUN_ERRORS
from compression.vocabulary import size, state

MOST_FOLDED = 2**26
"""Elements computed while folding constants, in all."""


class Trace:
    """The graph and its modules as they grow. `batches` are the two tried; the first is that of a static file."""

    def __init__(self, batches: tuple[int, int], *, static: bool) -> None:
        self.batches = batches
        self.static = static
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.places = Places(self.root)
        self.folded = 0
        self.unpacked = 0
        self.encoded: dict[int, Encoding] = {}  # by the identity of a parameter that the file holds encoded
        self.made: dict[tuple[Any, ...], str] = {}
        self.parameters: dict[tuple[Any, ...], nn.Parameter] = {}
        self.attached: dict[int, fx.Node] = {}
        self.kept: list[Tensor] = []  # so that no id in `attached` is given twice
        self.metas: dict[int, dict[str, Tensor]] = {}
        self._batch: fx.Node | None = None

    # values

    def placeholder(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Value:
        node = self.graph.placeholder(name)
        return self._noted(node, [torch.empty((batch, *shape), dtype=dtype, device="meta") for batch in self.batches])

    def constant(self, tensor: Tensor, name: str = "") -> Value:
        return Value((tensor,) * len(self.batches), name=name)

    def lengths(self, lengths: Sequence[Length | int]) -> Value:
        """Lengths as a known vector of integers."""
        rows = [torch.tensor([self.at(length, index) for length in lengths]) for index in range(len(self.batches))]
        rows = [row.to(torch.int64) for row in rows]
        return self.known(rows)

    def known(self, trials: Sequence[Tensor], name: str = "") -> Value:
        same = all(trial.dtype == trials[0].dtype and torch.equal(trial, trials[0]) for trial in trials[1:])
        return Value((trials[0],) * len(trials) if same else tuple(trials), name=name)

    def read_lengths(self, value: Value) -> list[Length]:
        """A known vector of integers as lengths. CannotLift: it is computed from the input's numbers."""
        if not value.known:
            raise CannotLift("a shape that is computed from the input's values")
        rows = [[int(entry) for entry in trial.reshape(-1).tolist()] for trial in value.trials]
        if len({len(row) for row in rows}) != 1:
            raise CannotLift("a shape whose rank depends on the batch")
        return [Length(entries) for entries in zip(*rows, strict=True)]

    @staticmethod
    def at(length: Length | int, trial: int) -> int:
        return length.at[trial] if isinstance(length, Length) else length

    # calls

    def call(self, function: Callable[..., Any], *args: Argument, **keywords: Argument) -> Value:
        """`function` of the arguments: a node of the graph, or its result where all of them are known."""
        (value,) = self.call_many(function, *args, **keywords)
        return value

    def call_many(self, function: Callable[..., Any], *args: Argument, **keywords: Argument) -> tuple[Value, ...]:
        """As `call`, of a function that may return several tensors."""
        values = values_in([*args, *keywords.values()])
        metas = [self._try(function, args, keywords, index, meta=True) for index in range(len(self.batches))]
        if all(value.known for value in values):
            return self._fold(function, args, keywords, metas, all(value.constant for value in values))
        node = self.graph.call_function(
            function,
            tuple(self._argument(entry) for entry in args),
            {key: self._argument(entry) for key, entry in keywords.items()},
        )
        if isinstance(metas[0], Tensor):
            return (self._noted(node, metas),)
        node.meta["trials"] = metas
        return tuple(
            self._noted(self.graph.call_function(operator.getitem, (node, index)), [meta[index] for meta in metas])
            for index in range(len(metas[0]))
        )

    def module(self, leaf: nn.Module, value: Value, wanted: str, key: object = None) -> Value:
        """A call of the leaf on `value`. Leaves with the same `key` (their tensors' identity) are one module."""
        (called,) = self._module(leaf, value, wanted, key)
        return called

    def again(self, path: str, value: Value) -> Value:
        """A call of the leaf that is at `path`, on another value."""
        node, metas = self._call_module(path, value)
        return self._noted(node, metas)

    def module_many(self, leaf: nn.Module, value: Value, wanted: str) -> Any:
        """The node of a leaf that returns nested tuples, and those tuples of meta tensors once per batch."""
        node, metas = self._call_module(self._place(leaf, wanted, None), value)
        return node, metas

    def item(self, node: fx.Node, metas: Sequence[Any], index: int) -> tuple[fx.Node, list[Any]]:
        """`node[index]`, and its meta values."""
        got = self.graph.call_function(operator.getitem, (node, index))
        found = [meta[index] for meta in metas]
        got.meta["trials"] = found
        return got, found

    def _module(self, leaf: nn.Module, value: Value, wanted: str, key: object) -> tuple[Value]:
        if value.known:
            value = self._noted(self.node_of(value), [trial.to("meta") for trial in value.trials])
        node, metas = self._call_module(self._place(leaf, wanted, key), value)
        return (self._noted(node, metas),)

    def _call_module(self, path: str, value: Value) -> tuple[fx.Node, list[Any]]:
        leaf = self.root.get_submodule(path)
        if id(leaf) not in self.metas:
            self.metas[id(leaf)] = {name: tensor.to("meta") for name, tensor in state(leaf).items()}
        try:
            metas = [functional_call(leaf, self.metas[id(leaf)], (trial,)) for trial in value.trials]
        except RUN_ERRORS as error:
            raise CannotLift(f"it does not fit its input: {str(error)[:200]}") from error
        node = self.graph.call_module(path, (self.node_of(value),))
        node.meta["trials"] = metas
        return node, metas

    def _place(self, leaf: nn.Module, wanted: str, key: object) -> str:
        if key is None:
            return self.places.module(wanted, leaf.eval())
        whole = (type(leaf), repr(leaf), key)
        if whole not in self.made:
            self.made[whole] = self.places.module(wanted, leaf.eval())
        return self.made[whole]

    def parameter(self, tensor: Tensor) -> nn.Parameter:
        """A parameter that holds `tensor`. Layers that use one stored matrix are tied: it is the same parameter. A
        vector is each layer's own: exporters store equal ones once (the zeros and ones of new networks)."""
        if tensor.dim() < 2:
            return nn.Parameter(tensor.detach().clone())
        key = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
        if key not in self.parameters:
            self.kept.append(tensor)
            self.parameters[key] = nn.Parameter(tensor.detach().clone(memory_format=torch.contiguous_format))
        return self.parameters[key]

    # from values to the graph

    def node_of(self, value: Value) -> fx.Node:
        """The node that computes a value: for a known one, of a tensor that is stored with the network."""
        if value.node is not None:
            return value.node
        if value.constant:
            return self._stored(value.trials[0], value.name)
        return self._grown(value)

    def _stored(self, tensor: Tensor, name: str) -> fx.Node:
        key = id(tensor)
        if key not in self.attached:
            self.kept.append(tensor)
            trained = bool(name) and tensor.is_floating_point() and tensor.numel() > 1 and not _is_mask(tensor)
            held = self.parameter(tensor) if trained else tensor.clone(memory_format=torch.contiguous_format)
            path = self.places.tensor(tensor_path(name), held)
            node = self.graph.get_attr(path)
            self._noted(node, [tensor.to("meta")] * len(self.batches))
            self.attached[key] = node
        return self.attached[key]

    def _grown(self, value: Value) -> fx.Node:
        """A known value whose shape follows the batch: one slice of it, expanded."""
        shapes = value.shapes
        axes = [axis for axis in range(value.rank) if len({shape[axis] for shape in shapes}) > 1]
        if len({len(shape) for shape in shapes}) != 1 or len(axes) != 1:
            raise CannotLift("a constant whose values depend on the batch")
        base = value.trials[0].narrow(axes[0], 0, 1)
        if not all(torch.equal(base.expand_as(trial), trial) for trial in value.trials):
            raise CannotLift("a constant whose values depend on the batch")
        sizes = [value.length(axis) if axis == axes[0] else -1 for axis in range(value.rank)]
        stored = self._noted(self._stored(base.contiguous(), value.name), [base.to("meta")] * len(shapes))
        grown = self.call(torch.ops.aten.expand.default, stored, sizes)
        return self.node_of(grown)

    def batch(self) -> fx.Node:
        """The node of the batch's length: right behind the inputs, so that it can be used anywhere."""
        if self._batch is None:
            inputs = [node for node in self.graph.nodes if node.op == "placeholder"]
            with self.graph.inserting_after(inputs[-1]):
                self._batch = self.graph.call_function(size, (inputs[0], 0))
            self._batch.meta["trials"] = list(self.batches)
        return self._batch

    def number_of(self, length: Length | int) -> fx.Node | int:
        """A length in the graph: a number, or a multiple of the batch."""
        if isinstance(length, int):
            return length
        if len(set(length.at)) == 1:
            return length.at[0]
        factor = length.at[0] // self.batches[0]
        if any(entry != factor * batch for entry, batch in zip(length.at, self.batches, strict=True)):
            raise CannotLift("a length that depends on the batch otherwise than as a multiple")
        if factor == 1:
            return self.batch()
        node = self.graph.call_function(operator.mul, (self.batch(), factor))
        node.meta["trials"] = list(length.at)
        return node

    def bound(self, *lengths: Length | int) -> None:
        """IntakeError (model-unsafe): these lengths make too large a value, or one is absurd by itself."""
        for index in range(len(self.batches)):
            sizes = [abs(self.at(length, index)) for length in lengths]
            if max(math.prod(sizes), *sizes, 0) > LARGEST_VALUE:
                raise IntakeError(
                    f"a value of {' × '.join(map(str, sizes))[:200]} elements: too large", kind="model-unsafe"
                )

    def _argument(self, entry: Argument) -> Any:
        if isinstance(entry, Value):
            return self.node_of(entry)
        if isinstance(entry, Length):
            return self.number_of(entry)
        if isinstance(entry, list | tuple):
            return type(entry)(self._argument(item) for item in entry)
        return entry

    def _noted(self, node: fx.Node, metas: Sequence[Tensor]) -> Value:
        for meta in metas:
            bound_elements(meta)
        node.meta["trials"] = list(metas)
        return Value(tuple(metas), node)

    # trying and folding

    def _try(self, function: Callable[..., Any], args: Argument, keywords: Any, index: int, *, meta: bool) -> Any:
        given = [self._resolved(entry, index, meta=meta) for entry in args]
        named = {key: self._resolved(entry, index, meta=meta) for key, entry in keywords.items()}
        try:
            with torch.no_grad():
                result = function(*given, **named)
        except RUN_ERRORS as error:
            raise CannotLift(f"it does not fit its inputs: {str(error)[:200]}") from error
        for part in result if isinstance(result, tuple | list) else (result,):
            bound_elements(part)
        return result

    def _resolved(self, entry: Argument, index: int, *, meta: bool) -> Any:
        if isinstance(entry, Value):
            return entry.trials[index].to("meta") if meta else entry.trials[index]
        if isinstance(entry, Length):
            return entry.at[index]
        if isinstance(entry, list | tuple):
            return type(entry)(self._resolved(item, index, meta=meta) for item in entry)
        return entry

    def _fold(
        self, function: Callable[..., Any], args: Argument, keywords: Any, metas: list[Any], constant: bool
    ) -> tuple[Value, ...]:
        parts = [meta if isinstance(meta, tuple | list) else (meta,) for meta in metas]
        if function not in _VIEWS:
            self.folded += sum(part.numel() for trial in parts for part in trial) * _work(function, args)
        if function in _PRODUCTS:
            with MadeInside() as inside:
                for index in range(len(self.batches)):
                    self._try(function, args, keywords, index, meta=True)
            self.folded += inside.largest // 4
        if self.folded > MOST_FOLDED:
            raise IntakeError(f"constants of more than {MOST_FOLDED} elements to compute", kind="model-unsafe")
        once = constant and not varies([*args, *keywords.values()])
        results = [
            self._try(function, args, keywords, index, meta=False) for index in range(1 if once else len(self.batches))
        ]
        listed = [result if isinstance(result, tuple | list) else (result,) for result in results]
        if once:
            return tuple(self.constant(part, _stored_name(part, args)) for part in listed[0])
        name = _stored_name(listed[0][0], args)
        return tuple(self.known([trial[index] for trial in listed], name) for index in range(len(listed[0])))


def _stored_name(part: Tensor, args: Argument) -> str:
    """The name of the stored tensor that `part` is a view of."""
    place = part.untyped_storage().data_ptr()
    return next((v.name for v in values_in(args) if v.known and v.trials[0].untyped_storage().data_ptr() == place), "")


def _work(function: Callable[..., Any], args: Argument) -> int:
    """How much more than a copy each element of the result takes: products sum over an axis."""
    shapes = [value.shape for value in values_in(args)]
    return 1 + max((max(shape, default=1) for shape in shapes), default=1) // 64 if function in _PRODUCTS else 1


_aten = torch.ops.aten
_PRODUCTS = {torch.matmul, _aten.einsum.default}
_VIEWS = {
    torch.transpose, torch.permute, torch.squeeze, torch.unsqueeze, torch.chunk, torch.split, torch.unbind,
    _aten.expand.default, _aten.select.int, _aten.slice.Tensor,
}  # fmt: skip
"""They copy nothing."""


def _is_mask(tensor: Tensor) -> bool:
    """Stored numbers that no training should move: infinite, or zeros and one other number (an attention mask)."""
    if not bool(torch.isfinite(tensor).all()):
        return True
    values = torch.unique(tensor)
    return math.prod(tensor.shape) >= 16 and len(values) == 2 and bool((values == 0).any())
