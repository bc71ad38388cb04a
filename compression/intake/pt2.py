"""Reads a torch.export archive (`.pt2`) without torch.load, torch.export.load, pickle, eval or sympy.

The program is JSON, the weights are raw bytes; everything is checked against `program_schema`, and the operators
against the allow-list of `compression.vocabulary`. Sample inputs are never opened; guards and symbolic expressions are
never evaluated, and refused where they hold code.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from torch import fx, nn
from torch._ops import OpOverload

from compression.errors import IntakeError
from compression.intake.archive import Archive
from compression.intake.expressions import refuse_code
from compression.intake.payload import Payloads
from compression.intake.program import Program
from compression.intake.program_schema import (
    Argument,
    ExportedProgram,
    GraphModule,
    InputSpec,
    Layout,
    Node,
    PayloadConfig,
    SymbolicArgument,
)
from compression.intake.shapes import MOST_NODES
from compression.network import Input
from compression.strict_json import parse_json
from compression.vocabulary import aten, is_identifier, takes

Value: TypeAlias = Any  # an argument of an fx node
Model = TypeVar("Model", bound=BaseModel)

DTYPES: Mapping[int, torch.dtype] = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
MEMORY_FORMATS: Mapping[int, torch.memory_format] = {
    1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format,
}  # fmt: skip
OPERATORS = {
    f"_operator.{name}": getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "truediv", "getitem")
}
FUSED = ("_transformer_encoder_layer_fwd", "_native_multi_head_attention")
"""What older torch writes for a whole layer of attention in eval mode."""
COMPARISONS = {f"_operator.{name}" for name in ("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_")}


def read_pt2(path: Path) -> Program:
    """The ATen program of the archive. IntakeError: says what is wrong, and with which member, operator or tensor."""
    with Archive(path) as archive:
        models = archive.names("models/")
        compiled = archive.names("data/aotinductor/")
        if compiled:
            raise IntakeError("the archive holds compiled code", compiled[0], kind="model-unsafe")
        if len(models) != 1 or not models[0].endswith(".json"):
            raise IntakeError("an archive of torch.export.save holds exactly one model; export with torch 2.8 or later")
        if "byteorder" in archive and archive.read("byteorder") != b"little":
            raise IntakeError("the weights are not little-endian", "byteorder")
        document = parse_json(archive.read(models[0]), models[0])
        version = document.get("schema_version") if isinstance(document, dict) else None
        if not isinstance(version, dict) or version.get("major") != 8:
            raise IntakeError(f"torch.export schema {str(version)[:100]}: only version 8 can be read", models[0])
        refuse_code(document, models[0])
        program = _parse(ExportedProgram, document, models[0])
        name = models[0].removeprefix("models/").removesuffix(".json")
        payloads = Payloads(archive, DTYPES)
        for kind in ("weights", "constants"):
            member = f"data/{kind}/{name}_{kind}_config.json"
            if member in archive:
                config = _parse(PayloadConfig, parse_json(archive.read(member), member), member)
                payloads.declare(f"data/{kind}/", config)
        return _Reader(program, payloads).read()


def _parse(model: type[Model], document: Any, where: str) -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:200]
        kind = "model-unsafe" if place.endswith("use_pickle") else None
        raise IntakeError(f"{place}: {first['msg']}", where, kind) from error


class _Reader:
    """Builds the fx graph, node by node; `values` maps the archive's names to what they stand for."""

    def __init__(self, program: ExportedProgram, payloads: Payloads) -> None:
        self.program = program
        self.payloads = payloads
        self.graph = fx.Graph()
        self.root = nn.Module()
        self.names: dict[str, str] = {}
        self.values: dict[str, Value] = {}
        self.fixed_axes: list[str] = []
        self.batches: list[int | None] = []

    def read(self) -> Program:
        module: GraphModule = self.program.graph_module
        if max(len(module.graph.nodes), len(module.signature.input_specs)) > MOST_NODES:
            raise IntakeError(f"more than {MOST_NODES} operators or tensors", kind="model-unsafe")
        layouts = module.graph.tensor_values
        users = [spec for spec in module.signature.input_specs if spec.user_input is not None]
        inputs = tuple(self._input(spec, layouts) for spec in users)
        if not inputs or len({batch for batch in self.batches if batch is not None}) > 1:
            raise IntakeError("the inputs need one batch axis, the first, of the same length")
        for spec in module.signature.input_specs:
            if spec.user_input is None:
                self._tensor(spec)
        for node in module.graph.nodes:
            self._node(node)
        results = [self._result(spec.user_output.arg) for spec in module.signature.output_specs if spec.user_output]
        if not results:
            raise IntakeError("the model returns no tensor")
        self.graph.output(results[0] if len(results) == 1 else tuple(results))
        free = any(batch is None for batch in self.batches)
        return Program(
            module=fx.GraphModule(self.root, self.graph),
            names=self.names,
            inputs=inputs,
            outputs=len(results),
            static_batch=None if free else self.batches[0],
            torch_version=self.program.torch_version,
            fixed_axes=tuple(self.fixed_axes),
        )

    def _input(self, spec: InputSpec, layouts: Mapping[str, Layout]) -> Input:
        argument = spec.user_input.arg.get("as_tensor") if spec.user_input else None
        name = argument.get("name") if isinstance(argument, dict) else None
        if not isinstance(name, str) or not is_identifier(name) or name not in layouts:
            raise IntakeError(f"an input that is no tensor, or has no proper name: {str(name)[:100]}")
        layout = layouts[name]
        dtype = str(DTYPES.get(layout.dtype)).removeprefix("torch.")
        if dtype not in {"float32", "int64", "int32", "bool"}:
            raise IntakeError(f"an input of type {dtype}; use float32, int64, int32 or bool", name)
        if not layout.sizes:
            raise IntakeError("an input without a batch axis", name)
        lengths = [self._length(name, axis, layout) for axis in range(len(layout.sizes))]
        self.batches.append(layout.sizes[0].as_int)
        self._define(name, self.graph.placeholder(name))
        return Input(name, tuple(lengths[1:]), dtype)

    def _length(self, name: str, axis: int, layout: Layout) -> int:
        size = layout.sizes[axis]
        length: Value = size.as_int
        if size.as_expr is not None:
            length = (size.as_expr.hint or {}).get("as_int")
            if axis:
                self.fixed_axes.append(f"{name}.{axis}")
        if type(length) is not int or length < 1:
            raise IntakeError(f"the length of axis {axis} is not known", name)
        return length

    def _tensor(self, spec: InputSpec) -> None:
        if spec.parameter is not None:
            name, argument = spec.parameter.parameter_name, spec.parameter.arg
        elif spec.buffer is not None:
            name, argument = spec.buffer.buffer_name, spec.buffer.arg
        elif spec.tensor_constant is not None:
            name, argument = spec.tensor_constant.tensor_constant_name, spec.tensor_constant.arg
        else:
            raise IntakeError("an input of an unknown kind")
        attribute = f"tensor_{len(self.names)}"
        tensor = self.payloads.read(name, parameter=spec.parameter is not None)
        if isinstance(tensor, nn.Parameter):
            self.root.register_parameter(attribute, tensor)
        else:
            self.root.register_buffer(attribute, tensor)
        self.names[attribute] = name
        self._define(argument.name, self.graph.get_attr(attribute))

    def _node(self, node: Node) -> None:
        if _is_assertion(node):
            return
        target = _target(node.target)
        args = tuple(self._value(entry.arg) for entry in node.inputs if entry.kind == 1)
        kwargs = {entry.name: self._value(entry.arg) for entry in node.inputs if entry.kind == 2}
        if isinstance(target, OpOverload):
            fits = takes(target, len(args), kwargs)
        else:  # an operator on lengths; fx writes it as a sign between its operands
            fits = not kwargs and len(args) in {1, 2} and all(isinstance(a, fx.Node | int | float) for a in args)
            fits = fits and (target is not operator.getitem or isinstance(args[0], fx.Node))
        if not fits:
            raise IntakeError("called with arguments that it does not take", node.target)
        name = next((output.as_tensor.name for output in node.outputs if output.as_tensor), None)
        call = self.graph.create_node("call_function", target, args, kwargs, name=name)
        call.meta["module"] = node.module()
        if len(node.outputs) == 1 and node.outputs[0].as_tensor is not None:
            self._define(node.outputs[0].as_tensor.name, call)
        elif len(node.outputs) == 1 and node.outputs[0].as_sym_int is not None:
            self._define(str(node.outputs[0].as_sym_int.as_name), call)
        else:
            for index, name in enumerate(_tensor_names(node)):
                self._define(name, self.graph.call_function(operator.getitem, (call, index)))

    def _define(self, name: str, value: fx.Node) -> None:
        if name in self.values:
            raise IntakeError("a name is defined twice", name)
        self.values[name] = value

    def _named(self, name: str) -> Value:
        if name not in self.values:
            raise IntakeError("a name is used before it is defined", name)
        return self.values[name]

    def _result(self, argument: Mapping[str, Any]) -> fx.Node:
        tensor = argument.get("as_tensor")
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(name, str):
            raise IntakeError("an output that is no tensor")
        node = self._named(name)
        if not isinstance(node, fx.Node):
            raise IntakeError("an output that is no tensor", name)
        return node

    def _symbolic(self, argument: SymbolicArgument) -> Value:
        return self._named(argument.as_name) if argument.as_name is not None else argument.as_int

    def _value(self, argument: Argument) -> Value:
        kind = argument.kind()
        content: Value = getattr(argument, kind)
        match kind:
            case "as_none":
                return None
            case "as_tensor":
                return self._named(content.name)
            case "as_tensors":
                return [self._named(entry.name) for entry in content]
            case "as_optional_tensors":
                return [self._named(entry.as_tensor.name) if entry.as_tensor else None for entry in content]
            case "as_sym_int":
                return self._symbolic(content)
            case "as_sym_ints":
                return [self._symbolic(entry) for entry in content]
            case "as_scalar_type" if content in DTYPES:
                return DTYPES[content]
            case "as_memory_format" if content in MEMORY_FORMATS:
                return MEMORY_FORMATS[content]
            case "as_layout" if content == 7:
                return torch.strided
            case "as_device":
                return torch.device("cpu")  # whatever it was: networks live on the CPU
            case "as_int" | "as_ints" | "as_float" | "as_floats" | "as_bool" | "as_bools" | "as_string":
                return content
        raise IntakeError(f"an argument that can't be used: {kind}")


def _is_assertion(node: Node) -> bool:
    """Whether a node only checks the shapes that were traced: left out, the lifted graph is checked by running it."""
    if all(output.kind() == "as_sym_bool" for output in node.outputs) and node.target in COMPARISONS:
        return True
    return not node.outputs and node.target.startswith(("torch.ops.aten._assert_", "torch.ops.aten.sym_constrain_"))


def _tensor_names(node: Node) -> list[str]:
    """The names of the outputs of a node that returns several tensors."""
    names: list[str] = []
    for output in node.outputs:
        if output.as_tensor is not None:
            names.append(output.as_tensor.name)
        elif output.as_tensors is not None:
            names += [entry.name for entry in output.as_tensors]
        else:
            raise IntakeError(f"an output of an unknown kind: {output.kind()}", node.target)
    return names


def _target(name: str) -> Any:
    """The callable behind a node's target; in-place forms of allow-listed operators too."""
    if name in OPERATORS:
        return OPERATORS[name]
    parts = name.split(".")
    if parts[:3] == ["torch", "ops", "aten"] and len(parts) == 5:
        plain = aten(f"aten.{parts[3].removesuffix('_')}.{parts[4]}")
        if plain is not None and parts[3].endswith("_"):
            found: Any = getattr(getattr(torch.ops.aten, parts[3]), parts[4], None)
            if found is not None:
                return found
        elif plain is not None:
            return plain
    fused = any(part in name for part in FUSED)
    way_out = "; call torch.backends.mha.set_fastpath_enabled(False) before torch.export.export" if fused else ""
    raise IntakeError(f"this operator is not supported{way_out}", name, kind="operator-unsupported")
