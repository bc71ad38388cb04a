"""Writes `.pt2`: a `torch.export` archive with a free batch axis, which `torch.export.load` of torch opens.

The archive has no sample inputs (torch would store them as a pickle) and no record of how the graph came about (stack
traces with paths of this machine, and object ids that change from run to run).
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor, fx

from compression.network import Signature


def write_pt2(module: fx.GraphModule, signature: Signature, example: tuple[Tensor, ...], path: Path) -> None:
    """Exports `module`, whose placeholders carry the names of `signature`, to `path`; `example` has two samples or
    more: one would be taken for a constant. The bytes depend on the module and on torch's version alone."""
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(module, example, dynamic_shapes=tuple({0: batch} for _ in signature.inputs))
    for graph_module in program.graph_module.modules():
        if isinstance(graph_module, fx.GraphModule):
            for node in graph_module.graph.nodes:
                node.meta = {"val": node.meta["val"]} if "val" in node.meta else {}
    program.example_inputs = None
    archive = io.BytesIO()  # given a path, torch names the archive's folder after the file
    torch.export.save(program, archive)
    path.write_bytes(archive.getbuffer())
