"""How the share of zeros grows from a first to a last one: by equal factors of what is left, or fast at first."""

from __future__ import annotations

from collections.abc import Callable

Moment = Callable[[float, float], float]
"""The share of zeros at one moment, from (the first share, the last share); both in 0 … 1."""


def geometric(done: float) -> Moment:
    """Every round removes the same share of what is left (Han et al. 2015; Frankle & Carbin 2019): with `done` from 0
    to 1, 1 − s = (1 − s_i)^(1 − done) · (1 − s_f)^done."""
    return lambda first, last: 1 - (1 - first) ** (1 - done) * (1 - last) ** done


def cubic(done: float) -> Moment:
    """s = s_f + (s_i − s_f)(1 − done)³, with `done` = (t − t₀) / (n Δt) from 0 to 1 (Zhu & Gupta 2017, equation 1)."""
    return lambda first, last: last + (first - last) * (1 - done) ** 3
