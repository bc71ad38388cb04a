"""`.onnx` → `Network`, or `OpaqueOnnx` where it can't be lifted.

A file is one protobuf message of at most 2 GB, opset 11 to 23 of the standard domain; of another one, `MatMulNBits`
(`packed_product.py`). It goes through these files:
`wire.py` (the bytes, before protobuf sees them), `structure.py` and `tensors.py` (what the model says), `importer.py`
with the `rules_*.py` (operators → the vocabulary, with every size known before anything is allocated), `work.py` (what
a sample takes), `fuse_*.py` (pieces → whole layers), `compare.py` (against ONNX Runtime), `probe.py` (what can't be
lifted, run in a bounded process).

What is refused is an IntakeError; `where` names the node or tensor. Its kinds are stable:

model-unreadable    no sound message (cut short, wrong wire types, a field twice), or a graph that contradicts itself:
                    a tensor whose bytes aren't those of its shape, a name made twice, a value used before it is made
                    (cycles and graphs out of order), an attribute twice
model-unsafe        external data anywhere; dimensions, tensors or values that are absurdly large (so also the bombs
                    made of ConstantOfShape, Expand, Tile, Pad, Resize, Range, OneHot); nesting too deep; too many
                    fields, nodes or folded values; more work or memory than one sample may take; a run that doesn't
                    end in time
model-unsupported   opset, domain, model-local functions, training information, sparse or string tensors, inputs that
                    are no tensors; also what ONNX Runtime doesn't run
output-unsupported  an output that isn't floating point (a last argmax)
"""

from __future__ import annotations

OLDEST_OPSET, NEWEST_OPSET = 11, 23
LARGEST_FILE = 2**31 - 1
"""Bytes: protobuf's own limit for a message."""
