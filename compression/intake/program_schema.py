"""The part of torch.export's JSON (schema 8) that Niwaki reads, as models that check it.

Everything else in the file is ignored: guards, symbolic expressions, stack traces, call graphs, sample inputs.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]
Path = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$", max_length=500)]
Int = Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)]


def _float(value: object) -> object:
    return float(value) if value in ("Infinity", "-Infinity", "NaN") else value  # JSON has none of the three


Float = Annotated[float, BeforeValidator(_float)]


class Read(BaseModel):
    model_config = ConfigDict(extra="ignore")


class OneOf(BaseModel):
    """A JSON object with exactly one key, which tells the kind of its value."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _one_key(cls, value: Any) -> Any:
        if not isinstance(value, dict) or len(value) != 1:
            raise ValueError("an object with exactly one key is expected")
        return value

    def kind(self) -> str:
        return next(iter(self.model_fields_set))


class Named(Read):
    name: Identifier


class Expression(Read):
    """A symbolic number. Its expression is never looked at: only the number that the model was traced with."""

    hint: dict[Literal["as_int", "as_float", "as_bool"], Int | float | bool] | None = None


class SymbolicInt(OneOf):
    as_int: Int | None = None
    as_expr: Expression | None = None


class Layout(Read):
    """A tensor's metadata: sizes, strides and offset in elements."""

    dtype: Int
    sizes: list[SymbolicInt] = Field(max_length=16)
    strides: list[SymbolicInt] = Field(max_length=16)
    storage_offset: SymbolicInt
    layout: Int


class SymbolicArgument(OneOf):
    as_name: Identifier | None = None
    as_int: Int | None = None


class OptionalTensor(OneOf):
    as_tensor: Named | None = None
    as_none: bool | None = None


class Device(Read):
    type: str


class Argument(OneOf):
    as_none: bool | None = None
    as_tensor: Named | None = None
    as_tensors: list[Named] | None = None
    as_optional_tensors: list[OptionalTensor] | None = None
    as_int: Int | None = None
    as_ints: list[Int] | None = None
    as_float: Float | None = None
    as_floats: list[Float] | None = None
    as_bool: bool | None = None
    as_bools: list[bool] | None = None
    as_string: Annotated[str, Field(max_length=100)] | None = None
    as_sym_int: SymbolicArgument | None = None
    as_sym_ints: list[SymbolicArgument] | None = None
    as_scalar_type: Int | None = None
    as_memory_format: Int | None = None
    as_layout: Int | None = None
    as_device: Device | None = None
    as_sym_bool: Any = None  # only assertions use one


class Output(OneOf):
    as_tensor: Named | None = None
    as_tensors: list[Named] | None = None
    as_sym_int: SymbolicArgument | None = None
    as_sym_bool: Any = None  # only assertions use one


class NodeInput(Read):
    name: str
    arg: Argument
    kind: Literal[1, 2] = Field(description="1: positional, 2: by name")


class Node(Read):
    target: Annotated[str, Field(max_length=200)]
    inputs: list[NodeInput] = Field(max_length=64)
    outputs: list[Output] = Field(max_length=1024)
    metadata: dict[str, str] = Field(default_factory=dict)

    def module(self) -> tuple[str, str]:
        """Path and class of the innermost module that made the call ("layers.0.c1", "Conv2d"), or two empty strings."""
        innermost = self.metadata.get("nn_module_stack", "").rpartition(";")[2].split(",")
        if len(innermost) != 3 or not re.fullmatch(r"\w+(\.\w+)*", innermost[1][:500], re.ASCII):
            return "", ""
        return innermost[1], innermost[2].rpartition(".")[2]


class Graph(Read):
    nodes: list[Node] = Field(max_length=200_000)
    tensor_values: dict[str, Layout]


class UserArgument(Read):
    arg: dict[str, Any]


class ParameterInput(Read):
    arg: Named
    parameter_name: Path


class BufferInput(Read):
    arg: Named
    buffer_name: Path


class ConstantInput(Read):
    arg: Named
    tensor_constant_name: Path


class InputSpec(OneOf):
    user_input: UserArgument | None = None
    parameter: ParameterInput | None = None
    buffer: BufferInput | None = None
    tensor_constant: ConstantInput | None = None


class OutputSpec(OneOf):
    user_output: UserArgument | None = None


class ProgramSignature(Read):
    input_specs: list[InputSpec] = Field(max_length=200_000)
    output_specs: list[OutputSpec] = Field(max_length=1024)


class GraphModule(Read):
    graph: Graph
    signature: ProgramSignature


class Version(Read):
    major: Int
    minor: Int


class ExportedProgram(Read):
    graph_module: GraphModule
    schema_version: Version
    torch_version: Annotated[str, Field(max_length=100)] = ""


class Payload(Read):
    path_name: Annotated[str, Field(pattern=r"^(weight|tensor)_[0-9]+$")]
    use_pickle: Literal[False]
    tensor_meta: Layout


class PayloadConfig(Read):
    config: dict[Path, Payload]
