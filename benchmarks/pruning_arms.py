"""The arms of `benchmarks.pruning`: Niwaki's structured pruning, and Torch-Pruning's recipes in the same rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch_pruning as tp

from compression.context import Context
from compression.measure.cost import cost_of
from compression.measure.runtime import compare_latency, open_session, random_inputs
from compression.methods.prune.structured import PruneStructured, SparsityTraining, apply
from compression.network import Network
from compression.pruning.channels import map_channels
from compression.pruning.latency_target import onnx_of
from compression.pruning.layer_graph import layer_calls
from compression.pruning.layer_times import LayerTimes, measure_layers
from compression.training.loop import train
from compression.training.spec import Training

ROUNDS = 5
STEPS = 400  # of Torch-Pruning, from nothing to nearly all
SECONDS = 3.0
Arm = Callable[[Network, float, Training, Context], Network]
"""(base, what is left as a share, training of a round, context) → the pruned network."""


def ours(target: str, *, loss: str = "both", sparse: bool = False, **options: Any) -> Arm:
    """`target`: macs_ratio or latency_ratio. `sparse`: the third epoch is spent before the first cut, making groups
    small, so that all arms train alike long."""

    def prune(network: Network, ratio: float, training: Training, context: Context) -> Network:
        rounds = training.model_copy(update={"loss": loss})
        first = None
        if sparse:
            first = SparsityTraining(**{**rounds.model_dump(), "epochs": 1.0}, strength=5e-4)
            rounds = rounds.model_copy(update={"epochs": (training.epochs * ROUNDS - 1) / ROUNDS})
        spec = PruneStructured(rounds=ROUNDS, finetune=rounds, sparsity_training=first, **{target: ratio}, **options)
        return apply(network, spec, context).network

    return prune


def torch_pruning(criterion: str, scope: str, round_to: int | None = None, timed: bool = False) -> Arm:
    """`timed`: it goes on until the table of layer times, scaled to what was measured, says that the share is reached:
    a rule that Torch-Pruning doesn't have, so that its nets are no slower than they have to be."""

    def prune(network: Network, ratio: float, training: Training, context: Context) -> Network:
        cost = _time(network) if timed else (lambda net: cost_of(net).macs)
        before = cost(network)
        current, factor = network, 1.0
        for number in range(1, ROUNDS + 1):
            step = _stepping(current, criterion, scope, round_to, context)
            wanted = before * ratio ** (number / ROUNDS)
            cut = current
            while True:
                while cost(cut) > wanted / factor and (stepped := step()) is not None:
                    cut = stepped
                if (
                    not timed
                    or number < ROUNDS
                    or cost(cut) > wanted / factor
                    or speed_up(network, cut) >= 0.98 / ratio
                ):
                    break  # where no step is left, it is what it is: its widths can't become as narrow
                factor = max(factor * 1.01, before / speed_up(network, cut) / cost(cut))
            for parameter in cut.module.parameters():
                parameter.grad = None
            labels = training.model_copy(update={"loss": "labels"})
            current, _ = train(cut, labels, context, stage=f"tp-{number}", field="")
        return current

    return prune


def speed_up(original: Network, smaller: Network) -> float:
    """Measured in ONNX Runtime, batch 1, one thread, in turn."""
    files = onnx_of(original), onnx_of(smaller)
    return compare_latency(*files, random_inputs(open_session(files[0]), 1), 1, SECONDS).ratio


def _stepping(
    network: Network, criterion: str, scope: str, round_to: int | None, context: Context
) -> Callable[[], Network | None]:
    importance = (
        tp.importance.GroupTaylorImportance() if criterion == "taylor" else tp.importance.GroupMagnitudeImportance(p=2)
    )
    module = network.copy().module
    last = [entry for entry in module.modules() if isinstance(entry, torch.nn.Linear)][-1]
    pruner = tp.pruner.BasePruner(
        module, network.example(2), importance, global_pruning=scope == "global", pruning_ratio=0.95,
        iterative_steps=STEPS, ignored_layers=[last], round_to=round_to,
    )  # fmt: skip
    if criterion == "taylor":
        _gradients(module, context)
    cut = network.replaced(module=module)
    taken = 0

    def step() -> Network | None:
        nonlocal taken
        taken += 1
        if taken > STEPS:
            return None
        pruner.step()
        return cut

    return step


def _time(network: Network) -> Callable[[Network], float]:
    times: LayerTimes = measure_layers(network, map_channels(network), 8)

    def microseconds(net: Network) -> float:
        layers = map_channels(net).layers
        calls = layer_calls(net).values()
        return sum(times.microseconds(c, len(layers[c.layer].inputs), len(layers[c.layer].outputs)) for c in calls)

    return microseconds


def _gradients(module: Any, context: Context) -> None:
    data = context.require_data("taylor")
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(context.seed))[:2048]
    for part in chosen.split(256):  # type: ignore[no-untyped-call]
        batch = data.train.take(part)
        assert batch.labels is not None
        loss = torch.nn.functional.cross_entropy(module(*batch.inputs.values()), batch.labels)
        loss.backward()  # type: ignore[no-untyped-call]
