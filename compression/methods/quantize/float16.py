"""`quantize.float16`: weights and biases as floats of two bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from compression.errors import SpecError
from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.selector import LayerSelector
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network


class QuantizeFloat16(StepSpec):
    """Short floats: weights and biases keep two bytes each instead of four, and hardly any accuracy is lost.

    Half the bytes in `.onnx`, `.nwk` and `.safetensors`; computed in float32 as before, so nothing gets faster. Norms
    stay float32: they are few, and an exporter folds them into the layers before them. What a mask holds stays zero.
    """

    method: Literal["quantize.float16"] = "quantize.float16"
    dtype: Literal["float16", "bfloat16"] = Field(
        "float16",
        description="float16: 11 significant bits, up to 65,504; bfloat16: 8 significant bits, of float32's range, and "
        "fewer bytes in a .nwk file",
    )
    finetune: Training | None = Field(
        None, description="training of the rounded weights, gradients straight through; null: they are rounded and left"
    )
    layers: LayerSelector = Field(default_factory=LayerSelector, description="layers whose parameters get short")


def check(network: Network) -> Verdict:
    from compression.quantization.float16 import shortenable

    names, few = shortenable(network)
    if not names:
        return Verdict(False, "all weights have shared values or levels, in fewer bits already" if few else NO_WEIGHTS)
    return Verdict(True, details=tuple(f"{name}: it has a {network.encodings[name].kind}" for name in few))


NO_WEIGHTS = "no layer has a weight matrix"


def apply(network: Network, spec: QuantizeFloat16, context: Context) -> StepResult:
    import torch

    from compression.quantization.float16 import shortenable, shortened
    from compression.training.loop import train

    layers = spec.layers.select({name: type(module).__name__ for name, module in network.layers().items()})
    names, few = shortenable(network, layers)
    if not names:
        raise SpecError("none of the selected layers has weights of its own that aren't coded already", "/layers")
    short, parameters = shortened(network, names, getattr(torch, spec.dtype))
    found: dict[str, Any] = {"dtype": spec.dtype, "parameters": parameters, "left_in_fewer_bits": few}
    if spec.finetune is not None:
        short, found["training"] = train(short, spec.finetune, context, stage="rounded", field="/finetune")
    record = {"step": "quantize.float16", "dtype": spec.dtype}
    return StepResult(short.replaced(provenance=(*short.provenance, record)), found)


def predict(cost: Cost, spec: QuantizeFloat16) -> Cost:  # noqa: ARG001 - the signature of every method
    """Parameters and MACs stay; how many bytes a file takes depends on its format."""
    return cost


def needs_data(spec: QuantizeFloat16) -> bool:
    return spec.finetune is not None


METHOD = Method(
    spec=QuantizeFloat16, check=check, apply=apply, predict=predict, needs_data=needs_data, leaves="encoded"
)
