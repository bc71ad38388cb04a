"""The scan of layers, and what it proposes, against trying everything."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import pytest
import torch

from compression.pruning.masks import Each
from compression.pruning.sensitivity import LEVELS, Curve, lower_hull, proposed, scan
from compression.pruning.weights import masked
from compression.training.losses import label_loss
from tests.engine.nets import Chain, network_of
from tests.engine.training.test_loop import context_for

WEIGHTS = ["conv1.weight", "hidden.weight"]


def test_a_scan_masks_one_layer_at_a_time(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    context = context_for(tmp_path, network)
    curves = scan(network, WEIGHTS, context)
    assert [share for share, _ in curves["hidden.weight"]] == [0.0, *LEVELS]
    alone = masked(network, ["hidden.weight"], Each({"hidden.weight": LEVELS[4]}))
    validation = context.require_data("test").validation
    assert validation.labels is not None
    with torch.no_grad():
        loss = float(label_loss(alone.module(validation.inputs["x"]), validation.labels, "classification"))
    assert dict(curves["hidden.weight"])[LEVELS[4]] == pytest.approx(loss, rel=1e-5)
    assert curves["conv1.weight"][0] == curves["hidden.weight"][0]  # nothing masked


def test_without_labels_it_is_the_error_against_the_original(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    curves = scan(network, WEIGHTS, context_for(tmp_path, network, labelled=False))
    for curve in curves.values():
        assert curve[0] == (0.0, 0.0)
        assert 0 < curve[1][1] < curve[-1][1] < 2


def test_the_proposal_costs_no_more_than_any_on_a_grid() -> None:
    """Convex curves of three weights of different sizes; every combination of shares in steps of 5 %."""
    draw = random.Random(0)
    curves: dict[str, Curve] = {}
    for name in "abc":
        slope, loss, curve = 0.0, 1.0, [(0.0, 1.0)]
        for share in (0.2, 0.4, 0.6, 0.8, 1.0):
            slope += draw.random()
            loss += slope * 0.2
            curve.append((share, loss))
        curves[name] = curve
    sizes = {"a": 1000, "b": 300, "c": 2000}

    def loss_of(shares: dict[str, float]) -> float:
        total = 0.0
        for name, share in shares.items():
            low = max(index for index, (at, _) in enumerate(curves[name][:-1]) if at <= share + 1e-9)
            (start, before), (end, after) = curves[name][low : low + 2]
            total += before + (after - before) * (share - start) / (end - start)
        return total

    for wanted in (0.3, 0.55, 0.8):
        shares = proposed(curves, sizes, wanted)
        assert sum(shares[name] * sizes[name] for name in sizes) == pytest.approx(wanted * 3300)
        grid = [entry / 20 for entry in range(21)]
        best = min(
            loss_of(dict(zip(sizes, chosen, strict=True)))
            for chosen in product(grid, repeat=3)
            if sum(share * size for share, size in zip(chosen, sizes.values(), strict=True)) >= wanted * 3300
        )
        assert loss_of(shares) <= best + 1e-9


def test_beyond_the_last_level_all_go_on_alike() -> None:
    curves: dict[str, Curve] = {"a": [(0.0, 1.0), (0.9, 1.5)], "b": [(0.0, 1.0), (0.9, 2.0)]}
    shares = proposed(curves, {"a": 100, "b": 300}, 0.95)
    assert shares == pytest.approx({"a": 0.95, "b": 0.95})


def test_a_hull_takes_no_dent_and_no_gain() -> None:
    assert lower_hull([(0.0, 1.0), (0.3, 0.9), (0.5, 1.4), (0.7, 1.2), (0.9, 3.0)]) == [
        (0.0, 1.0),
        (0.3, 1.0),
        (0.7, 1.2),
        (0.9, 3.0),
    ]
