"""Writes this folder's `torch-VERSION.tar.xz`: what the running version of torch exports (2.9 or later).

From the project's root, in an environment with that torch and numpy: `python -m tests.engine.intake.golden.make`.
Each holds, per network and kind of batch, the archive as `torch.export.save` wrote it ("residual-dynamic.pt2") and
inputs and outputs of the original module ("residual-dynamic.npz"). Stack traces are taken out: they name folders.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.engine.intake import nets

FOLDER = Path(__file__).parent


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Dropout(0.2), nn.Linear(9, 5), nn.LogSoftmax(1)
        )

    def forward(self, features):
        return self.layers(features)


class TwoInputs(nn.Module):
    """An image and a vector; two outputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2)
        self.wide = nn.Linear(5, 4)
        self.head = nn.Linear(8, 3)

    def forward(self, image, facts):
        image = torch.relu(self.conv(image)).mean((2, 3))
        both = torch.cat([image, torch.sigmoid(self.wide(facts))], dim=1)
        return self.head(both), both


def networks():
    """Name → (module in eval mode, inputs of batch 3)."""
    made = {}
    for name in ("residual", "depthwise", "squeeze-excite", "attention", "tied"):
        module, _ = nets.make(name)
        shape = nets.NETS[name][1]
        example = torch.randint(0, 11, (3, *shape)) if name == "tied" else torch.randn(3, *shape)
        made[name] = (module, (example,))
    torch.manual_seed(0)
    made["mlp"] = (Mlp().eval(), (torch.randn(3, 6),))
    made["two-inputs"] = (TwoInputs().eval(), (torch.randn(3, 1, 6, 6), torch.randn(3, 5)))
    return made


def exported(module, inputs, batch):
    """The archive's bytes; `batch`: "dynamic", "auto" (torch finds the range) or "static" (a batch of one)."""
    if batch == "static":
        program = torch.export.export(module, tuple(value[:1] for value in inputs))
    else:
        dim = torch.export.Dim.DYNAMIC if batch == "auto" else torch.export.Dim("batch", min=1, max=1024)
        program = torch.export.export(module, inputs, dynamic_shapes=tuple({0: dim} for _ in inputs))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return stream.getvalue()


def recorded(module, inputs):
    """The bytes of an `.npz` with in_0 … and out_0 …"""
    with torch.no_grad():
        outputs = module(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    arrays = {f"in_{index}": value.numpy() for index, value in enumerate(inputs)}
    arrays |= {f"out_{index}": value.numpy() for index, value in enumerate(outputs)}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def main():
    version = torch.__version__.partition("+")[0]
    with tarfile.open(FOLDER / f"torch-{version}.tar.xz", "w:xz") as archive:
        for name, (module, inputs) in networks().items():
            batches = ("dynamic", "static", "auto") if name == "residual" else ("dynamic", "static")
            files = {f"{name}-{batch}.pt2": exported(module, inputs, batch) for batch in batches}
            for member, content in {**files, f"{name}.npz": recorded(module, inputs)}.items():
                entry = tarfile.TarInfo(member)  # of no owner and no time
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main()
