"""What a parameter is restricted to: a mask, a codebook of shared values, a grid of evenly spaced ones (for a whole
tensor, a row or a block of a row), short floats.

An encoding maps *free* values to the parameter. Training moves the free values, by gradients that come through that
map; the parameter itself obeys the encoding at every moment, so whatever looks at the network sees what is delivered.
"""

from __future__ import annotations

from collections.abc import Mapping

from compression.encodings.blocks import Blocks
from compression.encodings.codebook import Codebook
from compression.encodings.encoding import Encoding, Learned
from compression.encodings.grid import Grid
from compression.encodings.half import BFloat16, Float16, Half
from compression.encodings.mask import Mask

__all__ = ["ENCODINGS", "BFloat16", "Blocks", "Codebook", "Encoding", "Float16", "Grid", "Half", "Learned", "Mask"]

ENCODINGS: Mapping[str, type[Encoding]] = {
    "mask": Mask,
    "codebook": Codebook,
    "grid": Grid,
    "blocks": Blocks,
    "float16": Float16,
    "bfloat16": BFloat16,
}
"""By kind, for those that read one back."""
