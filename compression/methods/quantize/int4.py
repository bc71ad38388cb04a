"""`quantize.int4`: the weights of linear layers in four bits, in blocks that share a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.selector import LayerSelector

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network


class QuantizeInt4(StepSpec):
    """Weights of linear layers in four bits, in blocks that share a step; rounded with compensation (GPTQ).

    An `.onnx` file holds them packed, in the operator MatMulNBits of ONNX Runtime. Activations stay floats. Wide layers
    may get faster by it, narrow ones slower: the report tells what was measured. Source: Frantar et al. 2023.
    """

    method: Literal["quantize.int4"] = "quantize.int4"
    block_size: Literal[16, 32, 64, 128, 256] = Field(32, description="weights of a row that share a step")
    zero_points: bool = Field(False, description="a zero of its own for each block, too; else the levels are −8 to 7")
    rounding: Literal["auto", "gptq", "nearest"] = Field(
        "auto",
        description="gptq: what rounding a column spoils, later columns make good, by the inputs of calibration "
        "samples; nearest: each weight by itself; auto: gptq where there is data",
    )
    samples: int = Field(256, ge=1, le=100_000, description="calibration samples, at most: what reaches each layer")
    damping: float = Field(
        0.01, ge=1e-6, le=1, description="added to the inputs' second moments, as a share of their mean"
    )
    layers: LayerSelector = Field(default_factory=LayerSelector, description="which linear layers get four bits")


def check(network: Network) -> Verdict:
    from compression.quantization.int4 import matrices

    if not matrices(network):
        return Verdict(False, "no layer is linear (convolutions have no four-bit form here: quantize.mixed takes them)")
    return Verdict(True)


def apply(network: Network, spec: QuantizeInt4, context: Context) -> StepResult:
    from compression.quantization.int4 import quantized

    return quantized(network, spec, context)


def predict(cost: Cost, spec: QuantizeInt4) -> Cost:  # noqa: ARG001 - the signature of every method
    """Parameters and MACs stay; how many bytes a file takes depends on its format."""
    return cost


METHOD = Method(
    spec=QuantizeInt4,
    check=check,
    apply=apply,
    predict=predict,
    needs_data=lambda spec: spec.rounding == "gptq",
    leaves="encoded",
)
