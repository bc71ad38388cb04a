"""`encode`: the network becomes one entropy-coded `.nwk` file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from compression.registry import Cost, Method, StepResult, StepSpec, Verdict

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network


class Encode(StepSpec):
    """Entropy coding: frequent values get short codes; the whole network in one `.nwk` file, and nothing is lost.

    What it saves depends on the steps before: masks, shared values and levels code well, plain weights hardly. The last
    step of a job; the file is delivered beside the exports.
    """

    method: Literal["encode"] = "encode"
    coder: Literal["auto", "adaptive", "range", "huffman", "huffman-sparse"] = Field(
        "auto",
        description="how integers are written: adaptive, binary arithmetic coding by contexts, smallest and slow to "
        "read without numba; range, a static model, fast; huffman, as in Deep Compression, for comparison; "
        "auto, the smallest for each tensor",
    )
    provenance: bool = Field(True, description="the file says which steps made it, which takes a few hundred bytes")


def check(network: Network) -> Verdict:
    from compression.container.network import container_of
    from compression.errors import VerificationError

    try:
        container_of(network)
    except VerificationError as error:
        return Verdict(False, error.message, error.where)
    return Verdict(True)


def apply(network: Network, spec: Encode, context: Context) -> StepResult:
    from compression.container.file import write_container
    from compression.container.network import container_of
    from compression.container.tensors import chooser
    from compression.measure.cost import cost_of

    record = {"step": "encode", "coder": spec.coder}
    provenance = (*network.provenance, record) if spec.provenance else ()
    delivery = {**network.delivery, "nwk": {"coder": spec.coder}}
    coded = network.replaced(provenance=provenance, delivery=delivery)
    container = container_of(coded)
    written = write_container(container, chooser(spec.coder))
    weights = cost_of(context.original).bytes
    facts: dict[str, Any] = {
        "file_bytes": len(written.file),
        "weights_bytes_of_the_original": weights,
        "ratio": round(weights / len(written.file), 2),
        "description_bytes": written.description,
        "tensors": [
            {
                "name": tensor.name,
                "kind": tensor.kind,
                "elements": tensor.values.size,
                "bytes": written.tensors[tensor.name],
                "bits_each": round(8 * written.tensors[tensor.name] / max(1, tensor.values.size), 3),
            }
            for tensor in container.tensors
        ],
    }
    return StepResult(coded, facts)


def predict(cost: Cost, spec: Encode) -> Cost:  # noqa: ARG001 - the signature of every method
    """What the codes come to isn't known before they are made."""
    return cost


METHOD = Method(spec=Encode, check=check, apply=apply, predict=predict, needs_data=lambda _: False, leaves="coded")
