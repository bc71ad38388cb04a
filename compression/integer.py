"""`IntegerOnnx`: a network that runs in integer arithmetic. It is a file, delivered as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from compression.measure.cost import NetworkCost, StoredCost, cost_of, stored_cost
from compression.network import Input, Network, Signature
from compression.opaque import OpaqueOnnx

Model: TypeAlias = "Network | OpaqueOnnx | IntegerOnnx"
"""What a job starts from, or what a step leaves."""
Figures: TypeAlias = NetworkCost | StoredCost


@dataclass(frozen=True)
class IntegerOnnx:
    """`file`: the bytes of one `.onnx`. `cost`: of the network whose numbers these are, with the bytes of the tensors
    that the file stores. `relative_error`: ‖its output − the float network's‖ / ‖the float network's‖ (Euclidean), on
    the samples that `compared_on` names. `provenance`: as a network's."""

    file: bytes
    signature: Signature
    cost: Figures
    relative_error: float
    compared_on: str
    provenance: tuple[Mapping[str, Any], ...] = ()


def known_cost(model: Model) -> Figures:
    """What it costs, as far as that is known."""
    if isinstance(model, IntegerOnnx):
        return model.cost
    return cost_of(model) if isinstance(model, Network) else stored_cost(model)


def save_integer(model: IntegerOnnx, folder: Path) -> None:
    """Two files in an existing folder: `model.onnx` and `integer.json`."""
    facts = {
        "signature": asdict(model.signature),
        "cost": asdict(model.cost),
        "relative_error": model.relative_error,
        "compared_on": model.compared_on,
        "provenance": [dict(entry) for entry in model.provenance],
    }
    (folder / "model.onnx").write_bytes(model.file)
    (folder / "integer.json").write_text(json.dumps(facts, sort_keys=True, allow_nan=False))


def load_integer(folder: Path) -> IntegerOnnx:
    facts = json.loads((folder / "integer.json").read_text())
    signature = facts["signature"]
    inputs = tuple(Input(entry["name"], tuple(entry["shape"]), entry["dtype"]) for entry in signature["inputs"])
    return IntegerOnnx(
        file=(folder / "model.onnx").read_bytes(),
        signature=Signature(inputs, tuple(signature["outputs"])),
        cost=_COST.validate_python(facts["cost"]),
        relative_error=facts["relative_error"],
        compared_on=facts["compared_on"],
        provenance=tuple(facts["provenance"]),
    )


_COST: TypeAdapter[Figures] = TypeAdapter(Figures)
