"""`Network` ↔ `.nwk`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from compression.container.file import Container, Written, read_container, write_container
from compression.container.sections import malformed
from compression.container.tensors import Kind, Tensor, chooser
from compression.encodings import Half
from compression.errors import VerificationError
from compression.intake.weights import network_document, network_from
from compression.network import Network
from compression.vocabulary import used_tensors

LARGEST_FILE = 1 << 30
DEFAULT_CODER = "auto"


def container_of(network: Network) -> Container:
    """Its tensors and document. A file's delivery isn't part of what it says. VerificationError: a parameter isn't what
    its encoding makes of it, and would come back as another."""
    document = network_document(network.replaced(delivery={}))
    return Container(document, [_tensor(network, name, value) for name, value in used_tensors(network.module).items()])


def encode(network: Network, coder: str = DEFAULT_CODER) -> Written:
    """The network's `.nwk` file; `coder` is one of `compression.coding.coder.CODERS`, or "auto": the smallest, tensor
    by tensor."""
    return write_container(container_of(network), chooser(coder))


def write_nwk(network: Network, path: Path) -> None:
    path.write_bytes(encode(network, str(network.delivery.get("nwk", {}).get("coder", DEFAULT_CODER))).file)


def read_nwk(path: Path) -> Network:
    """The network of a `.nwk` file. IntakeError: any fault of the file, which is not trusted."""
    if path.stat().st_size > LARGEST_FILE:
        raise malformed("it has more than 1 GiB", path.name)
    container = read_container(path.read_bytes())
    tensors: dict[str, torch.Tensor] = {}
    for tensor in container.tensors:
        parts = {tensor.name: tensor.values} | {
            f"encodings/{tensor.name}/{part}": value for part, value in tensor.parts.items()
        }
        if parts.keys() & tensors.keys():
            raise malformed("two tensors of one name", tensor.name)
        tensors |= {name: torch.from_numpy(np.array(value)) for name, value in parts.items()}
        if tensor.bfloat16:
            tensors[tensor.name] = tensors[tensor.name].bfloat16()
    return network_from(tensors, container.network)


def _tensor(network: Network, name: str, value: torch.Tensor) -> Tensor:
    values = value.detach().cpu().numpy()
    encoding = network.encodings.get(name)
    if encoding is None:
        return Tensor(name, "plain", values)
    with torch.no_grad():
        if not torch.equal(encoding.value(encoding.free(value)), value):
            raise VerificationError(f"the parameter doesn't obey its {encoding.kind}", name)
    if isinstance(encoding, Half):
        masks = {part: keep.cpu().numpy() for part, keep in encoding.tensors().items()}
        short = encoding.dtype == torch.bfloat16
        return Tensor(name, "mask" if masks else "plain", values if short else values.astype(np.float16), masks, short)
    kinds: dict[str, Kind] = {"mask": "mask", "codebook": "codebook", "grid": "grid", "blocks": "blocks"}
    parts: dict[str, Any] = {part: tensor.cpu().numpy() for part, tensor in encoding.tensors().items()}
    return Tensor(name, kinds[encoding.kind], values, parts)
