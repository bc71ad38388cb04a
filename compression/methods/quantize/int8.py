"""`quantize.int8`: the network runs in integers of eight bits in ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.selector import LayerSelector
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.integer import IntegerOnnx
    from compression.network import Network
    from compression.opaque import OpaqueOnnx


class QuantizeInt8(StepSpec):
    """Eight-bit integers: weights and activations in one byte each, as one .onnx file that runs so in ONNX Runtime.

    The last step of a job. A model that could not be taken apart can be quantized too. Whether it gets faster depends
    on the machine and the network: it is measured, and the report says so.
    """

    method: Literal["quantize.int8"] = "quantize.int8"
    mode: Literal["auto", "static", "dynamic"] = Field(
        "auto",
        description="static: ranges of activations are measured on data beforehand, for convolutions and products; "
        "dynamic: taken anew in every run, for matrix products (transformers) alone, without data; auto: the faster of "
        "those that lose no more than accuracy_budget (without one: 1 point), timed on the worker",
    )
    calibration: Literal["minmax", "percentile", "mse", "entropy"] = Field(
        "minmax",
        description="the range of an activation: of all values; all but the tails; of least squared error, or "
        "of least Kullback-Leibler divergence",
    )
    percentile: float = Field(
        99.99, ge=50, le=100, description="of values that lie within the range, for calibration: percentile"
    )
    samples: int = Field(512, ge=1, le=100_000, description="calibration samples, at most")
    bias_correction: bool = Field(
        True, description="biases take back the mean shift that the rounding of a layer's weights makes"
    )
    accuracy_budget: float | None = Field(
        None,
        ge=0,
        le=100,
        description="points of accuracy on validation that may be lost (of average precision; percent of squared "
        "error; without labels, of answers that change); layers that hurt most stay float until that holds",
    )
    reduce_range: bool = Field(
        False,
        description="weights of 7 bits: for x86 processors without VNNI, whose 8-bit sums can overflow",
    )
    qat: Training | None = Field(
        None,
        description="quantization-aware training beforehand: the network learns with rounded weights and activations",
    )
    layers: LayerSelector = Field(default_factory=LayerSelector, description="layers that may run in integers")

    @model_validator(mode="after")
    def _percentile_is_of_its_calibration(self) -> QuantizeInt8:
        if self.calibration != "percentile" and "percentile" in self.model_fields_set and self.percentile != 99.99:
            raise ValueError("percentile goes with calibration: percentile")
        return self

    @property
    def high(self) -> int:
        """The largest level of a weight."""
        return 63 if self.reduce_range else 127


def check(model: Network | OpaqueOnnx) -> Verdict:
    from compression.network import Network

    if not isinstance(model, Network):
        return _check_file(model)
    if not any(type(module).__name__ in {"Conv1d", "Conv2d", "Linear"} for module in model.layers().values()):
        return Verdict(False, "it has neither convolutions nor linear layers")
    return Verdict(True)


def _check_file(model: OpaqueOnnx) -> Verdict:
    import onnx

    operators = {node.op_type: node.name for node in onnx.load(model.path).graph.node}
    for name in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv"):
        if name in operators:
            return Verdict(False, "it runs in integers already", operators[name] or name)
    if not operators.keys() & {"Conv", "Gemm", "MatMul"}:
        return Verdict(False, "it has neither convolutions nor matrix products", model.stopped_by.node)
    return Verdict(True)


def apply(model: Network | OpaqueOnnx, spec: QuantizeInt8, context: Context) -> StepResult[IntegerOnnx]:
    from compression.quantization.int8.quantize import quantized

    return quantized(model, spec, context)


def predict(cost: Cost, spec: QuantizeInt8) -> Cost:  # noqa: ARG001 - the signature of every method
    """Parameters and MACs stay; a byte for each number, where every layer is integers."""
    return Cost(cost.parameters, cost.macs, max(1, cost.bytes // 4))


def needs_data(spec: QuantizeInt8) -> bool:
    return spec.mode == "static" or spec.qat is not None or spec.accuracy_budget is not None


METHOD = Method(
    spec=QuantizeInt8,
    check=check,
    apply=apply,
    predict=predict,
    needs_data=needs_data,
    leaves="integer",
    keeps_variants=False,
    forms=frozenset({"lifted", "opaque"}),
)
