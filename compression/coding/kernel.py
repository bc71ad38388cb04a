"""The loops of `adaptive`, in the part of Python that Numba compiles: integers, indexing, no objects.

The same source runs in two ways (`compiled.py`): interpreted, over lists, and compiled, over int64 arrays. Nothing here
exceeds 63 bits, so both give the same numbers.

A symbol is coded as binary decisions: zero or not, the sign, and |v| as an Elias-gamma code (its length in unary, then
its bits). Every decision has a probability, mixed from `CONTEXTS` adaptive probabilities, each chosen by a context of
symbols coded before, and `NEARBY` neighbours themselves, by logistic mixing (Mahoney 2005, "Adaptive weighing of
context models for lossless data compression"), and goes to a binary arithmetic coder with 32-bit bounds and no carry.
What the contexts look for is what pruned networks have: rows and columns of equal density, kernels that are empty as a
whole, and neighbours in the picture that the layer sees.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from typing import TypeAlias

Numbers: TypeAlias = MutableSequence[int]
Model: TypeAlias = tuple[
    Numbers, Numbers, Numbers, Numbers, Numbers, Sequence[int], Sequence[int], Sequence[int], Numbers
]

CONTEXTS = 11
NEARBY = 17
INPUTS = CONTEXTS + NEARBY + 1  # and one that is always there
NODES = 64  # places in the tree of decisions
FLAG = 63  # the node of a flag
MOST = 4096  # rows and columns with contexts of their own
LIMIT = 3071
WEIGHT_SETS = 16

_NEIGHBOUR = 128  # what a neighbour of magnitude 1 puts in, half a nat
_CERTAIN = 1023  # a probability stops averaging after so many decisions and follows on


def context_sizes(rows: int, columns: int) -> list[int]:
    """How many values each context has."""
    return [1, 81, 400, 180, 180, 243, 576, min(columns, MOST) + 1, min(rows, MOST) + 1, 256, 640]


def code(bit: int, decoding: bool, node: int, weight_set: int, model: Model, coder: Numbers, stream: Numbers) -> int:
    """One decision; returns it. `coder`: the bounds low and high, the value (of a decoder), the place in `stream`."""
    chances, seen, weights, inputs, contexts, starts, stretch, squash, rates = model
    first = weight_set * INPUTS
    parent = chances[node]
    dot = 0
    for i in range(CONTEXTS):
        slot = starts[i] + contexts[i] * NODES + node
        if seen[slot] == 0 and i > 0:
            chances[slot] = parent  # a context that is new begins where all contexts together stand
        inputs[i] = stretch[chances[slot] >> 6]
        dot += weights[first + i] * inputs[i]
    for i in range(CONTEXTS, INPUTS):
        dot += weights[first + i] * inputs[i]
    chance = squash[min(max(dot >> 16, -LIMIT), LIMIT) + LIMIT]

    low, high = coder[0], coder[1]
    span = high - low
    middle = low + (span >> 16) * chance + ((span & 0xFFFF) * chance >> 16)
    if decoding:
        bit = 1 if coder[2] <= middle else 0
    if bit:
        high = middle
    else:
        low = middle + 1
    while (low ^ high) & 0xFF000000 == 0:
        if decoding:
            coder[2] = (coder[2] << 8 & 0xFFFFFFFF) + (stream[coder[3]] if coder[3] < len(stream) else 0)
        elif coder[3] < len(stream):
            stream[coder[3]] = high >> 24
        coder[3] += 1
        low = low << 8 & 0xFFFFFFFF
        high = (high << 8 & 0xFFFFFFFF) + 255
    coder[0], coder[1] = low, high

    error = ((bit << 16) - chance) * 2
    for i in range(CONTEXTS):
        weights[first + i] += inputs[i] * error + (1 << 17) >> 18
        slot = starts[i] + contexts[i] * NODES + node
        count = seen[slot]
        moved = chances[slot] + (((bit << 22) - chances[slot]) * rates[count] >> 16)
        chances[slot] = min(max(moved, 64), (1 << 22) - 64)
        if count < _CERTAIN:
            seen[slot] = count + 1
    for i in range(CONTEXTS, INPUTS):
        weights[first + i] += inputs[i] * error + (1 << 17) >> 18
    return bit


def code_flags(flags: Numbers, decoding: bool, model: Model, coder: Numbers, stream: Numbers) -> None:
    """Flags in a row, by the last 0, 1, 2 … of them; no context counts for more than 4 here."""
    contexts, inputs = model[4], model[3]
    for i in range(CONTEXTS, INPUTS):
        inputs[i] = 0
    history = 0
    for place in range(len(flags)):
        for i in range(CONTEXTS):
            contexts[i] = 0 if i in (0, 7, 8) else history & (1 << min(i, 6)) - 1
        flags[place] = code(flags[place], decoding, FLAG, 0, model, coder, stream)
        history = history << 1 & 63 | flags[place]


def code_symbols(
    symbols: Numbers, rows: int, columns: int, depth: int, width: int, stride: int, decoding: bool, near: Numbers,
    column_count: Numbers, column_balance: Numbers, alive: Sequence[int], model: Model, coder: Numbers, stream: Numbers,
) -> bool:  # fmt: skip
    """All of `symbols` (rows · columns · depth) but those in columns that aren't alive. False: the stream of a decoder
    ran out long ago."""
    contexts, inputs = model[4], model[3]
    for row in range(rows):
        row_seen, row_count, row_balance, recent = 0, 0, 0, 0
        if decoding and coder[3] > len(stream) + 4:
            return False
        for column in range(columns):
            if alive[column] == 0:
                continue
            inside = 0
            for k in range(depth):
                place = (row * columns + column) * depth + k
                look_around(symbols, place, row, column, k, columns, depth, width, stride, near)
                by_row = density(row_count, row_seen)
                by_column = density(column_count[column], row * depth + k)
                around = surroundings(near)
                spread = min(length(recent >> 4), 9)
                significance_contexts(contexts, near, by_row, by_column, around, spread, inside, row, column, k)
                neighbours(inputs, near, False)
                symbol = symbols[place]
                row_seen += 1
                if code(1 if symbol != 0 else 0, decoding, 0, 0, model, coder, stream) == 0:
                    symbols[place] = 0
                    recent -= recent >> 4
                    continue
                tilt_row, tilt_column = tilt(row_balance), tilt(column_balance[column])
                sign_contexts(contexts, near, tilt_row, tilt_column, row, column, k)
                neighbours(inputs, near, True)
                negative = code(1 if symbol < 0 else 0, decoding, 1, 1, model, coder, stream)
                magnitude_contexts(contexts, near, by_row, by_column, tilt_column, negative, row, column, k)
                magnitude = code_magnitude(abs(symbol), decoding, model, coder, stream)
                sign = -1 if negative else 1
                symbols[place] = sign * magnitude
                inside += 1
                row_count += 1
                column_count[column] += 1
                row_balance += sign
                column_balance[column] += sign
                recent += 65536 - recent >> 4
    return True


def code_magnitude(magnitude: int, decoding: bool, model: Model, coder: Numbers, stream: Numbers) -> int:
    """At least 1 and below 2³²: nodes 2–21 for the length of its bits, 22 on for the bits."""
    bits = length(magnitude) - 1
    count = 0
    while count < 31 and code(
        1 if count < bits else 0, decoding, 2 + min(count, 19), 2 + min(count, 9), model, coder, stream
    ):
        count += 1
    known = 1
    for place in range(count - 1, -1, -1):
        node = 22 + known if count < 4 else 18 + 3 * min(count, 14) + (0 if known == 1 else 1 if known < 4 else 2)
        known = 2 * known + code(magnitude >> place & 1, decoding, node, 12, model, coder, stream)
    return known


def look_around(
    symbols: Numbers, place: int, row: int, column: int, k: int, columns: int, depth: int, width: int, stride: int,
    near: Numbers,
) -> None:  # fmt: skip
    """Neighbours that were coded before: 0–3 before it in the row, 4–7 above it in the column, 8 and 9 aslant, 10–13 a
    stride before (the same column of a picture's line above), 14–16 in the kernel."""
    line = columns * depth
    for i in range(4):
        near[i] = symbols[place - (i + 1) * depth] if column > i else 0
        near[4 + i] = symbols[place - (i + 1) * line] if row > i else 0
    near[8] = symbols[place - line - depth] if row > 0 and column > 0 else 0
    near[9] = symbols[place - line + depth] if row > 0 and column + 1 < columns else 0
    near[10] = symbols[place - stride * depth] if column >= stride else 0
    near[11] = symbols[place - (stride + 1) * depth] if column > stride else 0
    near[12] = symbols[place - (stride - 1) * depth] if column >= stride - 1 and stride > 1 else 0
    near[13] = symbols[place - 2 * stride * depth] if column >= 2 * stride else 0
    near[14] = symbols[place - 1] if k > 0 else 0
    near[15] = symbols[place - width] if k >= width else 0
    near[16] = symbols[place - 2] if k > 1 else 0


def neighbours(inputs: Numbers, near: Numbers, signed: bool) -> None:
    for i in range(NEARBY):
        value = max(-2, min(2, near[i]))
        inputs[CONTEXTS + i] = _NEIGHBOUR * (value if signed else abs(value))
    inputs[INPUTS - 1] = 256


def surroundings(near: Numbers) -> int:
    """0 to 15: how much there is around."""
    total = 2 * (upto(near[0], 2) + upto(near[4], 2) + upto(near[10], 2) + upto(near[14], 2) + upto(near[15], 2))
    total += upto(near[1], 2) + upto(near[5], 2)
    return min(15, total + upto(near[8], 1) + upto(near[9], 1) + upto(near[11], 1) + upto(near[12], 1))


def significance_contexts(
    contexts: Numbers, near: Numbers, by_row: int, by_column: int, around: int, spread: int, inside: int, row: int,
    column: int, k: int,
) -> None:  # fmt: skip
    before, above, aside = upto(near[0], 2), upto(near[4], 2), upto(near[10], 2)
    contexts[0] = 0
    contexts[1] = ((before * 3 + upto(near[1], 2)) * 3 + above) * 3 + upto(near[5], 2)
    contexts[2] = by_row * 20 + by_column
    contexts[3] = (by_column * 3 + before) * 3 + above
    contexts[4] = (by_row * 3 + before) * 3 + aside
    contexts[5] = ((aside * 2 + upto(near[11], 1)) * 2 + upto(near[12], 1)) * 9 + before * 3 + above
    contexts[6] = (min(k, 63) * 3 + upto(near[14], 2)) * 3 + upto(near[15], 2)
    contexts[7] = min(column, MOST)
    contexts[8] = min(row, MOST)
    contexts[9] = spread * 20 + by_column
    contexts[10] = (min(inside, 3) * 16 + around) * 10 + spread


def sign_contexts(
    contexts: Numbers, near: Numbers, tilt_row: int, tilt_column: int, row: int, column: int, k: int
) -> None:
    before, above, aside = sign_of(near[0]), sign_of(near[4]), sign_of(near[10])
    contexts[0] = 0
    contexts[1] = ((before * 3 + sign_of(near[1])) * 3 + above) * 3 + sign_of(near[5])
    contexts[2] = tilt_row * 7 + tilt_column
    contexts[3] = (tilt_column * 3 + before) * 3 + above
    contexts[4] = (tilt_row * 3 + before) * 3 + aside
    contexts[5] = ((aside * 3 + sign_of(near[11])) * 3 + sign_of(near[12])) * 9 + before * 3 + above
    contexts[6] = (min(k, 63) * 3 + sign_of(near[14])) * 3 + sign_of(near[15])
    contexts[7] = min(column, MOST)
    contexts[8] = min(row, MOST)
    contexts[9] = tilt_column * 3 + aside
    contexts[10] = (sign_of(near[14]) * 3 + sign_of(near[15])) * 7 + tilt_column


def magnitude_contexts(
    contexts: Numbers, near: Numbers, by_row: int, by_column: int, tilt_column: int, negative: int, row: int,
    column: int, k: int,
) -> None:  # fmt: skip
    before, above, aside = upto(near[0], 7), upto(near[4], 7), upto(near[10], 7)
    contexts[0] = 0
    contexts[1] = before * 8 + above
    contexts[2] = by_row * 20 + by_column
    contexts[3] = (by_column * 3 + min(before, 2)) * 3 + min(above, 2)
    contexts[4] = negative * 20 + by_row
    contexts[5] = aside * 8 + before
    contexts[6] = (min(k, 63) * 3 + upto(near[14], 2)) * 3 + upto(near[15], 2)
    contexts[7] = min(column, MOST)
    contexts[8] = min(row, MOST)
    contexts[9] = min(before + above + aside + upto(near[14], 7) + upto(near[15], 7), 31) * 2 + negative
    contexts[10] = tilt_column * 2 + negative


def upto(value: int, most: int) -> int:
    return min(abs(value), most)


def sign_of(value: int) -> int:
    return 0 if value == 0 else 1 if value > 0 else 2


def tilt(balance: int) -> int:
    """0 to 6: how many more positive than negative ones."""
    size = abs(balance)
    level = 0 if size == 0 else 1 if size < 2 else 2 if size < 5 else 3
    return level if balance >= 0 else 3 + level


def density(count: int, seen: int) -> int:
    """0 to 19, in octaves: how many of those seen are not zero; while none is, how many were seen."""
    if count == 0:
        return min(length(seen), 9)
    return 10 + min(length(count * 512 // seen), 9)


def length(value: int) -> int:
    """Its bits."""
    bits = 0
    while value > 0:
        value >>= 1
        bits += 1
    return bits
