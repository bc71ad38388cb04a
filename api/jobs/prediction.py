"""What a job would come to, by each method's own estimate: the answer to a dry run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel

from api.jobs.submission import Order
from compression.registry import Cost, methods

Json = dict[str, Any]


class Figures(BaseModel):
    """Parameters, MACs at batch 1, and bytes of the tensors in memory."""

    parameters: int
    macs: int
    bytes: int


class PredictedStep(BaseModel):
    index: int
    method: str
    predicted: Figures


class Prediction(BaseModel):
    """`estimate` is always true: nothing was run. `original` is measured; None: the model has no figures (an artifact
    that came without, or one whose operators couldn't be read)."""

    valid: bool
    estimate: bool
    original: Figures | None
    steps: list[PredictedStep]
    spec: Json


def predict(order: Order) -> Json:
    answer: Json = {"valid": True, "estimate": True, "original": None, "steps": [], "spec": order.stored_spec}
    known = None if order.inspection is None else order.inspection["cost"]
    if known is None or known["macs"] is None:
        return answer
    cost = Cost(known["parameters"], known["macs"], known["bytes"])
    answer["original"] = asdict(cost)
    for index, step in enumerate(order.spec.steps):
        cost = methods()[step.method].predict(cost, step)
        answer["steps"].append({"index": index, "method": step.method, "predicted": asdict(cost)})
    return answer
