"""Whether a lifted network computes what the file does in ONNX Runtime."""

from __future__ import annotations

import operator

import numpy as np
import torch
from torch import Tensor, fx, nn

from compression.errors import IntakeError
from compression.intake.onnx.edit import is_call
from compression.intake.onnx.importer import Stop
from compression.intake.onnx.runtime import ORT_ERRORS, open_reference, run_bounded
from compression.intake.onnx.signature import Declared
from compression.intake.shapes import run
from compression.network import Network
from compression.verify import least_scales

TOLERANCE = 1e-5
"""Of the largest number in an output: kernels sum in other orders. A sigmoid's scale is at least SIGMOID_SCALE."""
SECONDS = 60.0


def compare(network: Network, declared: Declared, model: bytes) -> float:
    """The largest difference, relative to each output's largest number, at batches of one and two; where the batch is
    static at that batch, and at twice as many samples against two runs of the file.

    Stop: they differ, or the network doesn't run. IntakeError (model-unsupported): ONNX Runtime doesn't run the file.
    """
    try:
        session = open_reference(model)
    except ORT_ERRORS as error:
        raise not_run(error) from error
    batch = declared.static_batch
    worst, scales = 0.0, least_scales(network.module)
    for count in (1, 2) if batch is None else (batch, 2 * batch):
        inputs = random_inputs(network, count)
        parts = (
            [inputs]
            if batch is None
            else [tuple(value[i : i + batch] for value in inputs) for i in range(0, count, batch)]
        )
        wanted = [_run_file(session, declared, part) for part in parts]
        try:
            found = run(network.module, inputs)
        except IntakeError as error:
            raise Stop("", "", f"the lifted network does not run at a batch of {count}: {error.message}") from error
        for index, value in enumerate(found):
            whole = torch.cat([part[index] for part in wanted])
            name = network.signature.outputs[index]
            worst = max(worst, _difference(value, whole, name, count, scales[index]))
    return worst


def not_run(error: BaseException) -> IntakeError:
    return IntakeError(f"ONNX Runtime does not run this file: {str(error)[:300]}", kind="model-unsupported")


def _run_file(session: object, declared: Declared, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    feed = {entry.stored_name: value.numpy() for entry, value in zip(declared.inputs, inputs, strict=True)}
    feed |= {entry.stored_name: np.zeros(entry.shape, entry.dtype) for entry in declared.unused}
    try:
        outputs = run_bounded(session, feed, SECONDS)
    except ORT_ERRORS as error:
        raise not_run(error) from error
    if not all(isinstance(value, np.ndarray) for value in outputs):
        raise IntakeError("an output is no tensor", kind="model-unsupported")
    return [torch.from_numpy(value) for value in outputs]


def _difference(value: Tensor, wanted: Tensor, name: str, batch: int, least: float) -> float:
    if value.shape != wanted.shape or value.dtype != wanted.dtype:
        raise Stop("", name, f"lifting gives {_form(value)} instead of {_form(wanted)}")
    one, other = value.double(), wanted.double()
    if not bool((torch.isfinite(one) == torch.isfinite(other)).all()):
        raise Stop("", name, "lifting gives infinite numbers elsewhere than the file")
    finite = torch.isfinite(other)
    scale = float(other[finite].abs().max()) if bool(finite.any()) else 1.0
    off = float((one - other)[finite].abs().max()) if bool(finite.any()) else 0.0
    relative = off / max(scale, least, 1e-12)
    if not relative <= TOLERANCE:
        raise Stop("", name, f"lifting changes the output by {relative:.1e} of its scale at a batch of {batch}")
    return relative


def _form(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def random_inputs(network: Network, batch: int) -> tuple[Tensor, ...]:
    """As the network's example; what selects from embeddings is drawn below the number of their rows."""
    generator = torch.Generator().manual_seed(batch)
    values = list(network.example(batch, seed=batch))
    rows = _rows(network)
    for index, node in enumerate(node for node in network.module.graph.nodes if node.op == "placeholder"):
        if node in rows:  # others may be masks, which the example hides in part alone
            drawn = torch.randint(0, rows[node], values[index].shape, generator=generator)
            values[index] = drawn.to(values[index].dtype)
    return tuple(values)


_aten = torch.ops.aten
_KEEPING = (
    _aten._to_copy,  # noqa: SLF001
    _aten.remainder, _aten.slice, _aten.select, _aten.expand, torch.reshape, torch.flatten,
    torch.squeeze, torch.unsqueeze, torch.transpose, torch.permute, torch.chunk, operator.getitem,
)  # fmt: skip


def _rows(network: Network) -> dict[fx.Node, int]:
    """The inputs that embeddings are asked with, as they are or through what keeps their values, with the rows of the
    shortest. A mask that places are counted from would count beyond the rows, were it drawn so."""
    found: dict[fx.Node, int] = {}
    for node in network.module.graph.nodes:
        leaf = network.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        waiting = list(node.all_input_nodes) if isinstance(leaf, nn.Embedding) else []
        seen = set()
        while waiting:
            source = waiting.pop()
            if source in seen:
                continue
            seen.add(source)
            if source.op == "placeholder" and isinstance(leaf, nn.Embedding):
                found[source] = min(found.get(source, leaf.num_embeddings), leaf.num_embeddings)
            waiting += source.all_input_nodes if is_call(source, *_KEEPING) else []
    return found
