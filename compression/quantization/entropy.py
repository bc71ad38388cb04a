"""Training for bytes: the levels have a price that a target moves (`price.py`), while the learning rate falls.

A file's bytes are counted by writing it. Everything is decided on validation; the test split isn't read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from compression.container.network import encode
from compression.distillation.alteration import alteration_for
from compression.distillation.lesson import Distilling, Lesson
from compression.distillation.teachers import Teacher
from compression.encodings import Encoding, Grid
from compression.errors import SpecError
from compression.methods.quantize.entropy import SEARCH
from compression.network import Network
from compression.pruning.weights import weight_names
from compression.quantization.importance import fisher
from compression.quantization.learned_grid import PricedGrid
from compression.quantization.price import Aiming, Price, Rising
from compression.quantization.rdoq import chosen_levels
from compression.quantization.step import step_for
from compression.quantization.targets import Round, allowed_accuracy, byte_limit, chosen, first_limit, next_start
from compression.registry import StepResult
from compression.training.loop import MakeObjective, train
from compression.training.losses import match_for
from compression.training.objective import FromOriginal, Objective
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.methods.quantize.entropy import QuantizeEntropy

LEAST_SOUNDINGS = 12
"""So often at least, in a training that aims at bytes, a file is written to see how many they are."""


def quantized(network: Network, spec: QuantizeEntropy, context: Context) -> StepResult:
    """The network with grids, and facts. SpecError at the field at fault."""
    data = context.require_data("quantize.entropy")
    if spec.accuracy_drop is not None and data.task != "classification":
        raise SpecError("an accuracy needs labels of classes", "/accuracy_drop")
    names = level_names(network, spec)
    facts: dict[str, Any] = {"judged_on": "the validation split"}
    if spec.training is None:
        result = on_grid(network, names, spec)
        size = file_bytes(result)
    else:
        with tempfile.TemporaryDirectory(prefix="niwaki-teacher-") as folder:
            objective = _objective(spec, context, Path(folder))
            rounds, best = _trained(network, names, spec, context, objective)
        result, size = best.network, best.file_bytes
        facts["rounds"] = [entry.described(number) for number, entry in enumerate(rounds, 1)]
    facts["file_bytes"] = size
    if spec.rdoq is not None:
        weights = network if spec.training is None else result
        result = _rate_distortion(weights, result, names, spec, context)
        facts["file_bytes_after_rdoq"] = size = file_bytes(result)
    limit = byte_limit(spec, context)
    if limit is not None:
        facts["target_bytes"], facts["target_met"] = limit, size <= limit
    facts["parameters"] = {name: _described(result, name) for name in names}
    record = {"step": "quantize.entropy", "levels": spec.levels}
    return StepResult(result.replaced(provenance=(*result.provenance, record)), facts)


def level_names(network: Network, spec: QuantizeEntropy) -> list[str]:
    """Weights and biases of the selected layers that have weights; norms stay as they are."""
    layers = spec.layers.select({name: type(module).__name__ for name, module in network.layers().items()})
    weights = set(weight_names(network, layers))
    owners = {name.rpartition(".")[0] for name in weights}
    names = [
        name
        for name, value in network.module.named_parameters()
        if name in weights or (value.dim() == 1 and name.rpartition(".")[0] in owners)
    ]
    if not names:
        raise SpecError("none of the selected layers has weights of its own", "/layers")
    return names


def file_bytes(network: Network) -> int:
    """Of its `.nwk` file without the record of the steps."""
    return len(encode(network.replaced(provenance=())).file)


def on_grid(network: Network, names: list[str], spec: QuantizeEntropy) -> Network:
    """A copy with each of these parameters rounded to a grid of its own."""
    rounded = network.copy()
    grids = {
        name: Grid(
            step_for(rounded.module.get_parameter(name), spec.levels, per_channel=spec.per_channel),
            -spec.levels,
            spec.levels,
        )
        for name in names
    }
    rounded = rounded.replaced(encodings={**network.encodings, **grids})
    rounded.project()
    return rounded


def _objective(spec: QuantizeEntropy, context: Context, folder: Path) -> MakeObjective:
    """Labels and the original's outputs; of samples that are altered, the original is asked anew in each step."""
    data = context.require_data("quantize.entropy")
    alteration = alteration_for(data, spec.shift, spec.noise, spec.mixup)
    if not alteration:
        return FromOriginal
    teacher = Teacher("the original", context.original, 1.0)
    lesson = Lesson((teacher,), folder, match_for(data.task), alteration=alteration)
    judge = lesson.heard(data.validation, context.device)

    def objective(module: fx.GraphModule, training: Training, inner: Context) -> Distilling:
        return Distilling(module, training, inner, lesson, None, judge)

    return objective


@dataclass(frozen=True)
class _Task:
    """What all rounds have in common. `held`: by name, what masks of the network as it came keep; elsewhere is zero."""

    names: list[str]
    held: Mapping[str, Tensor]
    spec: QuantizeEntropy
    context: Context
    objective: MakeObjective


def _trained(
    network: Network, names: list[str], spec: QuantizeEntropy, context: Context, objective: MakeObjective
) -> tuple[list[Round], Round]:
    """All rounds, and the one that is chosen."""
    parts = {name: encoding.tensors() for name, encoding in network.encodings.items()}
    held = {name: tensors["keep"] for name, tensors in parts.items() if "keep" in tensors}
    task = _Task(names, held, spec, context, objective)
    if spec.accuracy_drop is None:
        only = _round(task, network, byte_limit(spec, context), (1, 1))
        return [only], only
    rounds: list[Round] = []
    start, limit = network, first_limit(context)
    allowed = allowed_accuracy(network, spec, context)
    count = spec.rounds or SEARCH
    for number in range(1, count + 1):
        rounds.append(_round(task, start, limit, (number, count)))
        start, limit = next_start(network, rounds, allowed)
    return rounds, chosen(rounds, allowed)


def _round(task: _Task, start: Network, limit: int | None, number: tuple[int, int]) -> Round:
    """One training. `limit`: the bytes it aims at; none: the spec has a weight. `number`: which, of how many."""
    spec, training = task.spec, task.spec.training
    assert training is not None  # noqa: S101 - the caller's condition
    learned: dict[str, PricedGrid] = {}
    price = _price(task, start, learned, limit)
    at_first = {name: value.clone() for name, value in price.state_dict().items()}
    for name in task.names:
        value = start.module.get_parameter(name)
        step = _first_step(value, start.encodings.get(name), spec)
        learned[name] = PricedGrid(step, spec.levels, value.shape, name, price, task.held.get(name))

    def priced(module: fx.GraphModule, training: Training, inner: Context) -> Objective:
        made = task.objective(module, training, inner)
        price.load_state_dict(at_first)  # a run that diverged is begun again
        made.extra = price
        return made

    span = ((number[0] - 1) / number[1], number[0] / number[1])
    trained, facts = train(
        start,
        training.model_copy(update={"loss": "teacher"}) if spec.mixup else training,
        task.context,
        stage=f"round-{number[0]}",
        field="/training",
        span=span,
        objective=priced,
        keep="last",
        learned=learned,
    )
    done = Round(limit, trained, file_bytes(trained), facts["history"][-1])
    message = f"round {number[0]} of {number[1]}: {done.file_bytes} bytes"
    task.context.progress(span[1], message, file_bytes=done.file_bytes)
    return done


def _price(task: _Task, start: Network, learned: Mapping[str, PricedGrid], limit: int | None) -> Price:
    """`learned` gets its grids after this, and has them when the price is first asked for a file's bytes."""
    training, context = task.spec.training, task.context
    assert training is not None  # noqa: S101 - the caller's condition
    parameters = sum(value.numel() for value in start.module.parameters())
    each = training.steps_per_epoch(len(context.require_data("quantize.entropy").train))
    steps = max(1, round(training.epochs * each))
    if limit is None:
        assert task.spec.rate_weight is not None  # noqa: S101 - a spec has one target
        return Rising(len(task.names), steps, parameters, task.spec.rate_weight)
    sketch = start.copy()

    def bytes_now(free: Mapping[str, Tensor]) -> int:
        with torch.no_grad():
            for name, values in free.items():
                sketch.module.get_parameter(name).copy_(learned[name].value(values))
        settled = {name: learned[name].settled(values) for name, values in free.items()}
        return file_bytes(sketch.replaced(encodings={**sketch.encodings, **settled}))

    return Aiming(len(task.names), steps, parameters, limit, bytes_now, max(1, min(each, steps // LEAST_SOUNDINGS)))


def _first_step(value: Tensor, encoding: Encoding | None, spec: QuantizeEntropy) -> Tensor:
    """That of the grid which a round before has left. Another step's grid, of other levels, would clip the weights."""
    apart = spec.per_channel and value.dim() > 1
    if isinstance(encoding, Grid) and encoding.high == spec.levels and bool(encoding.step.dim()) == apart:
        return encoding.step
    return step_for(value, spec.levels, per_channel=spec.per_channel)


def _rate_distortion(
    weights: Network, rounded: Network, names: list[str], spec: QuantizeEntropy, context: Context
) -> Network:
    """`rounded`, its levels chosen anew for the values of `weights`."""
    assert spec.rdoq is not None  # noqa: S101 - the caller's condition
    importance = fisher(weights, names, spec.rdoq.samples, context)
    result = rounded.copy()
    for name in names:
        grid, value = rounded.encodings[name], weights.module.get_parameter(name).detach()
        assert isinstance(grid, Grid)  # noqa: S101 - on_grid and training leave nothing else
        levels = chosen_levels(value, grid, importance[name], spec.rdoq.bit_price)
        with torch.no_grad():
            step = grid.step.reshape(-1, *[1] * (value.dim() - 1)) if grid.step.dim() else grid.step
            result.module.get_parameter(name).copy_(levels * step)
    return result


def _described(network: Network, name: str) -> dict[str, Any]:
    value, grid = network.module.get_parameter(name).detach(), network.encodings[name]
    assert isinstance(grid, Grid)  # noqa: S101 - on_grid and training leave nothing else
    levels = grid.levels(value)
    rows = int((value.flatten(1) != 0).any(1).sum()) if value.dim() > 1 else int((value != 0).sum())
    return {
        "zeros_percent": round(100 * float((value == 0).double().mean()), 3),
        "largest_level": int(levels.abs().max()) if levels.numel() else 0,
        "outputs_left": rows,
    }
