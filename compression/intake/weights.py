"""`.safetensors`: weights for an architecture of the zoo, or a whole network as Niwaki writes it.

Niwaki's own file is both its checkpoint and an artifact: the tensors are parameters, buffers (by their plain names, so
that the file also serves as a state dict) and those of the encodings ("encodings/PARAMETER/PART"); the metadata's key
"niwaki" holds graph, signature, encodings' kinds, variants and provenance as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, fx, nn

from compression.encodings import ENCODINGS, Encoding, Half
from compression.errors import IntakeError, SpecError, VerificationError
from compression.graph_json import graph_to_json
from compression.graph_parse import graph_from_json
from compression.intake.shapes import run, shapes
from compression.intake.tensors import read_tensors, write_tensors
from compression.network import Input, Network, Signature, Variant
from compression.strict_json import parse_json
from compression.vocabulary import is_identifier, used_tensors
from compression.zoo.catalog import ARCHITECTURES, zoo_network

_PREFIX = "encodings/"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _InputDocument(_Strict):
    name: str = Field(max_length=200)
    shape: list[int] = Field(max_length=8)
    dtype: Literal["float32", "int64", "int32", "bool"]


class _NetworkDocument(_Strict):
    format: Literal[1]
    graph: dict[str, Any]
    inputs: list[_InputDocument] = Field(min_length=1, max_length=64)
    outputs: list[str] = Field(min_length=1, max_length=64)
    encodings: dict[str, str]
    variants: dict[str, list[int]] = Field(min_length=1, max_length=1000)
    provenance: list[dict[str, Any]]
    delivery: dict[str, dict[str, Any]] = {}


def save_network(network: Network, path: Path) -> None:
    """Writes one `.safetensors` file that holds everything of `network`; equal networks give equal bytes. Parameters
    that are floats of two bytes are written in their type. VerificationError: one isn't, for all its encoding says."""
    tensors = used_tensors(network.module)
    for name, encoding in network.encodings.items():
        if isinstance(encoding, Half):
            short = tensors[name].to(encoding.dtype)
            if not torch.equal(short.float(), tensors[name]):
                raise VerificationError(f"the parameter doesn't obey its {encoding.kind}", name)
            tensors[name] = short
        tensors |= {f"{_PREFIX}{name}/{part}": tensor for part, tensor in encoding.tensors().items()}
    write_tensors(tensors, path, json.dumps(network_document(network), separators=(",", ":"), allow_nan=False))


def network_document(network: Network) -> dict[str, Any]:
    """All of a network but its tensors, as JSON; `network_from` takes it back."""
    document: dict[str, Any] = {
        "format": 1,
        "graph": graph_to_json(network.module),
        "inputs": [asdict(spec) for spec in network.signature.inputs],
        "outputs": list(network.signature.outputs),
        "encodings": {name: encoding.kind for name, encoding in sorted(network.encodings.items())},
        "variants": {name: list(variant.outputs) for name, variant in network.variants.items()},
        "provenance": list(network.provenance),
    }
    if network.delivery:
        document["delivery"] = dict(network.delivery)
    return document


def load_network(path: Path) -> Network:
    """The network that `save_network` wrote. IntakeError: any fault of the file, which is not trusted."""
    tensors, metadata = read_tensors(path)
    if "niwaki" not in metadata:
        raise IntakeError("these are plain weights, not a network that Niwaki wrote", path.name)
    return network_from(tensors, parse_json(metadata["niwaki"], "niwaki"))


def read_weights(path: Path, architecture: Mapping[str, Any] | None) -> Network:
    """A network from a `.safetensors` file: Niwaki's own, or weights for `architecture`
    ({"architecture": NAME, "arguments": {…}}, see `compression.zoo.catalog`)."""
    tensors, metadata = read_tensors(path)
    if architecture is None:
        if "niwaki" not in metadata:
            known = ", ".join(ARCHITECTURES)
            raise IntakeError(
                f'these are plain weights: say which architecture they are of, as {{"architecture": NAME, "arguments": '
                f"{{…}}}}; known: {known}",
                path.name,
            )
        return network_from(tensors, parse_json(metadata["niwaki"], "niwaki"))

    if not isinstance(architecture.get("architecture"), str) or not set(architecture) <= {"architecture", "arguments"}:
        raise SpecError("an architecture is an object with the keys architecture and arguments", "/architecture")
    network = zoo_network(architecture["architecture"], architecture.get("arguments", {}), seed=0)
    fill(network.module, tensors)
    source = {"format": "safetensors", "architecture": architecture["architecture"]}
    return network.replaced(provenance=({**network.provenance[0], **source},))


def fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copies `tensors` into the module's parameters and buffers, all of them; half precision is widened.
    IntakeError: names what is missing, unexpected or misshaped."""
    state = module.state_dict()
    missing = [name for name in state if name not in tensors and not name.endswith("num_batches_tracked")]
    unexpected = sorted(set(tensors) - set(state))
    misshaped = [name for name, tensor in tensors.items() if name in state and not _fits(tensor, state[name])]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape or type": misshaped}
    told = [f"{len(names)} {what} ({', '.join(names[:5])})" for what, names in faults.items() if names]
    if told:
        raise IntakeError(
            "the tensors don't fit the architecture: " + "; ".join(told), (missing + unexpected + misshaped)[0]
        )
    module.load_state_dict({**state, **tensors})


def _fits(tensor: Tensor, wanted: Tensor) -> bool:
    widened = wanted.dtype is torch.float32 and tensor.dtype in {torch.float16, torch.bfloat16}
    return tensor.shape == wanted.shape and (tensor.dtype == wanted.dtype or widened)


def network_from(tensors: dict[str, Tensor], document: Any) -> Network:
    """The network of a `network_document` and its tensors: parameters, buffers, and "encodings/PARAMETER/PART".
    IntakeError: neither is trusted, and something doesn't fit."""
    try:
        parsed = _NetworkDocument.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise IntakeError(f"the network's description is malformed: {first['msg']}", where) from error
    parts = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_PREFIX)}
    _widen(tensors, parsed.encodings)
    module = graph_from_json(parsed.graph, tensors)
    inputs = tuple(Input(spec.name, tuple(spec.shape), spec.dtype) for spec in parsed.inputs)
    _check_signature(module, inputs, parsed.outputs)
    taken = {spec.name for spec in inputs}
    for name in parsed.outputs:
        if not is_identifier(name) or name in taken:
            raise IntakeError("an output needs a name of its own, of letters, digits and _", name[:100])
        taken.add(name)
    if "full" not in parsed.variants:
        raise IntakeError('there is no variant "full"', "variants")
    for name, indices in parsed.variants.items():
        if not is_identifier(name):
            raise IntakeError("a variant's name has letters, digits and _", name[:100])
        if not indices or len(set(indices)) != len(indices) or not all(0 <= i < len(parsed.outputs) for i in indices):
            raise IntakeError("a variant of outputs that are not there", name[:100])
    network = Network(
        module,
        Signature(inputs, tuple(parsed.outputs)),
        _encodings(parsed.encodings, parts, dict(module.named_parameters())),
        {name: Variant(tuple(indices)) for name, indices in parsed.variants.items()},
        tuple(parsed.provenance),
        parsed.delivery,
    )
    for batch in (1, 3):
        shapes(module, inputs, batch)
    run(module, network.example(1))  # shapes alone don't tell that a type doesn't fit
    return network


def _widen(tensors: dict[str, Tensor], kinds: Mapping[str, str]) -> None:
    """Parameters stored as floats of two bytes become float32, in place."""
    for name, kind in kinds.items():
        if kind not in ENCODINGS:
            raise IntakeError(f"an encoding that isn't known: {kind[:100]}", name[:200])
        encoding = ENCODINGS[kind]
        if issubclass(encoding, Half) and name in tensors:
            if tensors[name].dtype != encoding.dtype:
                raise IntakeError(f"a {kind} that is stored as {str(tensors[name].dtype).removeprefix('torch.')}", name)
            tensors[name] = tensors[name].float()


def _check_signature(module: fx.GraphModule, inputs: tuple[Input, ...], outputs: list[str]) -> None:
    nodes = list(module.graph.nodes)
    names = [node.target for node in nodes if node.op == "placeholder"]
    returned = nodes[-1].args[0]
    count = len(returned) if isinstance(returned, tuple) else 1
    if names != [spec.name for spec in inputs] or count != len(outputs):
        raise IntakeError("the signature is not that of the graph", "inputs")


def _encodings(
    kinds: Mapping[str, str], parts: dict[str, Tensor], parameters: Mapping[str, nn.Parameter]
) -> dict[str, Encoding]:
    encodings: dict[str, Encoding] = {}
    for name, kind in kinds.items():
        prefix = f"{_PREFIX}{name}/"
        own = {key.removeprefix(prefix): parts.pop(key) for key in list(parts) if key.startswith(prefix)}
        if name not in parameters:
            raise IntakeError(f"a {kind} of a parameter that isn't there", name)
        try:
            encodings[name] = ENCODINGS[kind].read(own, parameters[name].shape)
        except ValueError as error:
            raise IntakeError(f"a {kind} that does not fit its parameter: {error}", name) from error
    if parts:
        raise IntakeError("a tensor that belongs to no encoding", min(parts))
    return encodings
