"""Tables of the logistic function and its inverse, in integers alone: the same on every machine.

`SQUASH[x + 3071]` is 65536 / (1 + e^(−x/256)), from 1 to 65535; `STRETCH[p]` is the smallest x whose squash is at least
p: ln(p / (1 − p)) in steps of 1/256. Powers of e^(1/256) are counted with 96 bits behind the
point, so no floating-point function of any library has a say. `tests/engine/coding/test_adaptive.py` pins both.
"""

from __future__ import annotations

from bisect import bisect_left

LIMIT = 3071  # of the stretched domain: ±12 nats
_ONE = 1 << 96


def _squash() -> list[int]:
    root, term, divisor = 0, _ONE, 0
    while term:  # e^(1/256) by its series
        root += term
        divisor += 256
        term //= divisor
    upper, power = [], _ONE
    for _ in range(LIMIT + 1):
        upper.append(65536 * power // (power + _ONE))
        power = power * root >> 96
    return [max(1, 65536 - p) for p in upper[:0:-1]] + [min(65535, p) for p in upper]


SQUASH = _squash()
STRETCH = [min(LIMIT, bisect_left(SQUASH, p) - LIMIT) for p in range(65536)]
