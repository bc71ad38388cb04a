"""Bias correction (Nagel et al. 2019, "Data-free quantization", section 4.2): rounding a layer's weights shifts the
mean of its outputs by E[(W' − W) x]; the bias takes that back. E[x] is measured here, on calibration samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compression.quantization.int8.graph import Layer


def shift(layer: Layer, rounded: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean shift of each output channel. `rounded`: the layer's weights as the integers have them; `means`: of each
    input channel. Zeros that pad an image's border count as inside."""
    change = np.moveaxis(rounded - layer.weight.astype(np.float64), layer.axis, 0)
    if layer.operator != "Conv":
        product: NDArray[np.float64] = change @ means
        return product
    each = change.reshape(*change.shape[:2], -1).sum(2)  # output channels × input channels of the group
    groups = len(means) // each.shape[1]
    by_group = means.reshape(groups, each.shape[1])
    outputs = len(each) // groups
    sums: NDArray[np.float64] = (each * np.repeat(by_group, outputs, axis=0)).sum(1)
    return sums
