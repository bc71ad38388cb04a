"""Channel numbers through products of two computed tensors: matrix products and attention."""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import fx

from compression.pruning.channel_map import Labels, Product, Read
from compression.pruning.graph_names import operator_name
from compression.pruning.numbers import Ids

if TYPE_CHECKING:
    from compression.pruning.channels import Tracer, Value

Operand: TypeAlias = tuple[tuple[int, ...], fx.Node, str]
"""Which argument it is (as in `Read`), its node, and a letter for each of its axes, as in Einstein's notation."""


def follow_matmul(t: Tracer, node: fx.Node) -> Value:
    left, right = node.args[:2]
    if not isinstance(left, fx.Node) or not isinstance(right, fx.Node):
        return t.stop(node)
    ranks = len(t.shape(left)), len(t.shape(right))
    if min(ranks) < 2:
        return t.stop(node)
    batch = string.ascii_uppercase[: max(ranks) - 2]
    operands: list[Operand] = [
        ((0,), left, batch[len(batch) - ranks[0] + 2 :] + "ik"),
        ((1,), right, batch[len(batch) - ranks[1] + 2 :] + "kj"),
    ]
    return _contract(t, node, operands, batch + "ij", batch)


def follow_einsum(t: Tracer, node: fx.Node) -> Value:
    equation, sources = str(node.args[0]).replace(" ", ""), node.args[1]
    letters, _, output = equation.partition("->")
    operands = letters.split(",")
    plain = all(part.isalpha() and len(set(part)) == len(part) for part in [*operands, output])
    if not isinstance(sources, list | tuple) or len(operands) != 2 or not plain:
        return t.stop(node)
    shared = "".join(letter for letter in operands[0] if letter in operands[1] and letter in output)
    named = [((1, place), source, part) for place, (source, part) in enumerate(zip(sources, operands, strict=True))]
    return _contract(t, node, named, output, shared)  # type: ignore[arg-type]


def follow_attention(t: Tracer, node: fx.Node) -> Value:
    """softmax(q·kᵀ·scale + mask)·v. Queries and keys share the places in a head, which the scale must not follow."""
    query, key, value = node.args[:3]
    mask: Any = node.args[3] if len(node.args) > 3 else node.kwargs.get("attn_mask")
    if not all(isinstance(part, fx.Node) for part in (query, key, value)) or node.kwargs.get("enable_gqa"):
        return t.stop(node)
    rank = len(t.shape(query))  # type: ignore[arg-type]
    if any(len(t.shape(part)) != rank for part in (key, value)):  # type: ignore[arg-type]
        return t.stop(node)
    batch = string.ascii_uppercase[: rank - 2]
    operands: list[Operand] = [((0,), query, batch + "id"), ((1,), key, batch + "jd"), ((2,), value, batch + "je")]  # type: ignore[list-item]
    if isinstance(mask, fx.Node):
        letters = batch + "ij"
        operands.append(((3,), mask, letters[rank - len(t.shape(mask)) :]))
    if node.kwargs.get("scale") is None:
        width = t.shape(query)[-1]  # type: ignore[arg-type]
        places = t.labels(query).get(rank - 1)
        if places is not None:
            t.map.scales[node.name] = (width**-0.5, places)
    return _contract(t, node, operands, batch + "ie", batch, held="ij", terms=("ijd", "ije"))


def _contract(
    t: Tracer,
    node: fx.Node,
    operands: list[Operand],
    output: str,
    batch: str,
    *,
    held: str = "",
    terms: tuple[str, ...] | None = None,
) -> Labels:
    """Unites the numbers of axes with the same letter. Letters of `batch` are heads where a layer makes them; `held`
    ones must stay. `terms`: the letters of each product besides `batch`."""
    found = _by_letter(t, node, operands, held)
    computed = all(source.op != "get_attr" for _, source, _ in operands[:2])  # a mask may be a constant
    for letter, ids in found.items():
        if computed:
            t.numbers.mark(ids, "heads" if letter in batch else "head_dim")
    summed = {letter for letter in found if letter not in output}
    path, first, letters = operands[0]
    for letter in sorted(summed & set(letters)):
        axis = letters.index(letter)
        t.map.reads.append(Read(node.name, path, axis - len(letters), t.labels(first)[axis]))
    lengths: dict[str, int] = {}
    for _, source, letters in operands:
        for letter, length in zip(letters, t.single_shape(source), strict=True):
            lengths[letter] = max(lengths.get(letter, 1), length)
    every = "".join(dict.fromkeys("".join(letters for _, _, letters in operands)))
    for term in terms or ("".join(letter for letter in every if letter not in batch),):
        used = [letter for letter in every if letter in batch or letter in term]
        macs = math.prod(lengths[letter] for letter in used)
        t.map.products.append(Product(macs, tuple(found[letter] for letter in used if letter in found), node.name))
    return {axis: found[letter] for axis, letter in enumerate(output) if letter in found}


def _by_letter(t: Tracer, node: fx.Node, operands: list[Operand], held: str) -> dict[str, Ids]:
    sizes: dict[str, int] = {}
    for _, source, letters in operands:
        for letter, size in zip(letters, t.shape(source), strict=True):
            sizes[letter] = max(sizes.get(letter, 1), size)
    known: dict[str, list[Ids]] = {}
    missing: set[str] = set(held)
    for _, source, letters in operands:
        for axis, (letter, size) in enumerate(zip(letters, t.shape(source), strict=True)):
            ids = t.labels(source).get(axis)
            if size != sizes[letter]:
                t.freeze({} if ids is None else {axis: ids}, f"it is broadcast in {node.name}")
            elif ids is None:
                missing.add(letter)
            else:
                known.setdefault(letter, []).append(ids)
    for letter, entries in known.items():
        for ids in entries:
            if letter in missing:
                t.numbers.freeze(ids, f"{operator_name(node)} ({node.name}) needs it whole")
            else:
                t.numbers.unite(entries[0], ids)
    return {letter: entries[0] for letter, entries in known.items() if letter not in missing}
