"""`quantize.codebook`: weights share a few values, which are then trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from compression.errors import SpecError
from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.selector import LayerSelector
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network


class QuantizeCodebook(StepSpec):
    """Weight clustering: each layer's weights share a few values, found by k-means and then trained (Han et al. 2016).

    Zeros that a mask holds stay zero and take no value. An `.onnx` file holds the values and each weight's number.
    """

    method: Literal["quantize.codebook"] = "quantize.codebook"
    convolution_bits: int = Field(8, ge=1, le=12, description="of each weight of a convolution: 2^bits shared values")
    linear_bits: int = Field(5, ge=1, le=12, description="of each weight of any other layer")
    group_rows: int | None = Field(
        None, ge=1, le=65536, description="values are shared within so many outputs; none: within the whole layer"
    )
    finetune: Training | None = Field(
        Training(epochs=1, optimizer="adamw", learning_rate=0.0003),
        description="training of the shared values, each by the sum of its members' gradients; null leaves the means",
    )
    layers: LayerSelector = Field(default_factory=LayerSelector, description="which layers share their weights")


def check(network: Network) -> Verdict:
    from compression.pruning.weights import weight_names

    if not weight_names(network):
        return Verdict(False, "no layer has a weight matrix")
    return Verdict(True)


def apply(network: Network, spec: QuantizeCodebook, context: Context) -> StepResult:
    from compression.quantization.codebook import bits_by_parameter, clustered
    from compression.training.loop import train

    layers = spec.layers.select({name: type(module).__name__ for name, module in network.layers().items()})
    bits = bits_by_parameter(network, layers, spec.convolution_bits, spec.linear_bits)
    if not bits:
        raise SpecError("none of the selected layers has weights of its own", "/layers")
    shared, facts = context.checkpoints.stage("clusters", lambda: clustered(network, bits, spec.group_rows))
    found = {"parameters": facts}
    if spec.finetune is not None:
        shared, found["training"] = train(shared, spec.finetune, context, stage="values", field="/finetune")
    record = {
        "step": "quantize.codebook",
        "convolution_bits": spec.convolution_bits,
        "linear_bits": spec.linear_bits,
        "group_rows": spec.group_rows,
    }
    return StepResult(shared.replaced(provenance=(*shared.provenance, record)), found)


def predict(cost: Cost, spec: QuantizeCodebook) -> Cost:  # noqa: ARG001 - the signature of every method
    """Parameters and MACs stay; how many bytes a file takes depends on its format."""
    return cost


def needs_data(spec: QuantizeCodebook) -> bool:
    return spec.finetune is not None


METHOD = Method(
    spec=QuantizeCodebook, check=check, apply=apply, predict=predict, needs_data=needs_data, leaves="encoded"
)
