"""Layers that stay float: how much each one's integers alone disturb the output, and as few float ones as a budget asks
for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from compression.quantization.int8.judged import Outputs, decibels

Write = Callable[[Collection[str]], bytes]
"""The file in which these layers are integers."""


@dataclass(frozen=True)
class Disturbance:
    """`sqnr_db`: of the output, where this layer alone is in integers."""

    layer: str
    sqnr_db: float


def disturbances(
    layers: Sequence[str],
    write: Write,
    run: Callable[[bytes], Outputs],
    reference: Outputs,
    progress: Callable[[float], None],
) -> list[Disturbance]:
    """The worst first. `run`: the outputs of a file on the samples that `reference` is of."""
    found = []
    for index, layer in enumerate(layers):
        found.append(Disturbance(layer, round(decibels(run(write([layer])), reference), 3)))
        progress((index + 1) / len(layers))
    return sorted(found, key=lambda entry: (entry.sqnr_db, entry.layer))


def fewest_floats(
    ordered: Sequence[Disturbance], write: Write, lost: Callable[[bytes], float], budget: float
) -> tuple[list[str], bytes]:
    """The layers that stay float, and the file: of the first k of `ordered` the smallest k whose file loses `budget` at
    most, as far as halving finds it. With all of them float nothing is lost."""
    names = [entry.layer for entry in ordered]

    def file(count: int) -> bytes:
        return write(names[count:])

    low, high = 0, len(names)  # low loses too much, high doesn't
    while high - low > 1:
        middle = (low + high) // 2
        if lost(file(middle)) <= budget:
            high = middle
        else:
            low = middle
    return names[:high], file(high)
