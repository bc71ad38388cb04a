"""Integer tensors that the tests of the coders share."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9)
EXTREME = st.sampled_from([-(1 << 31), (1 << 31) - 1, -1, 0, 1, 1 << 16])
VALUES = st.one_of(st.integers(-(1 << 31), (1 << 31) - 1), st.integers(-2, 2), EXTREME)
TENSORS = st.one_of(
    npst.arrays(np.int32, SHAPES, elements=VALUES),
    npst.arrays(np.int32, SHAPES, elements=st.integers(-1, 1), fill=st.just(0)),
)


def ternary(shape: tuple[int, ...], density: float, seed: int = 0) -> NDArray[np.int32]:
    """Ternary weights of which half of the rows and columns vanish, as rate-aware training leaves them."""
    random = np.random.default_rng(seed)
    kept = random.random(shape) < density
    kept &= (random.random(shape[0]) < 0.5).reshape((-1,) + (1,) * (len(shape) - 1))
    if len(shape) > 1:
        kept &= (random.random(shape[1]) < 0.5).reshape((1, -1) + (1,) * (len(shape) - 2))
    return np.where(kept, random.choice([-1, 1], shape), 0).astype(np.int32)


def laplacian(shape: tuple[int, ...], scale: float, seed: int = 0) -> NDArray[np.int32]:
    return np.round(np.random.default_rng(seed).laplace(0, scale, shape)).astype(np.int32)
