"""The one training loop of all engines: labels, teacher or both; encodings honoured at every step; best weights chosen
on validation; resumable at any step, with the same outcome as an undisturbed run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, fx, nn

from compression.context import Context
from compression.data import Dataset
from compression.encodings import Encoding, Learned
from compression.errors import MethodError, SpecError
from compression.network import Network
from compression.training.evaluate import metrics_of, outputs_of, top1
from compression.training.objective import FromOriginal, Objective
from compression.training.spec import Training

WARM_UP = 0.05
MakeObjective = Callable[[fx.GraphModule, Training, Context], Objective]
"""Given the module that is trained, on the run's device."""
Keep = Literal["best", "last"]
"""Which weights: the best on validation, or the last ones (where something else than the outputs gets better too)."""


@dataclass
class Progress:
    """What a run has come to: everything that isn't a tensor."""

    step: int = 0
    best_epoch: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    top: float = 0.0  # the highest accuracy or agreement seen
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    network: Network,
    spec: Training,
    context: Context,
    *,
    stage: str,
    field: str = "/training",
    span: tuple[float, float] = (0.0, 1.0),
    objective: MakeObjective = FromOriginal,
    keep: Keep = "best",
    learned: Mapping[str, Learned] = MappingProxyType({}),
) -> tuple[Network, dict[str, Any]]:
    """A trained copy of `network`, and facts: the history by epoch and the epoch kept (0 = the weights it came with).

    `stage` names its checkpoints, unique within the step; `field` is where `spec` stands in the step's own;
    `span` is the part of the step's progress that this is; `objective` makes what is minimised. `learned`: by name,
    parameters that come to have another encoding, which is trained along.

    A run that ruins the network is repeated from its start with a tenth of the learning rate, `spec.second_chances`
    times at most; `given_up` in the facts are the rates that were too high, with their histories. What training can
    bear differs by orders of magnitude: gradients grow with the outputs' unit, and with every batch norm that an
    exporter folded into its convolution.
    """

    def attempt(number: int) -> tuple[Network, dict[str, Any]]:
        name = f"{stage}-slower-{number}" if number else stage
        slower = spec.model_copy(update={"learning_rate": spec.learning_rate / 10**number})
        try:
            trained = context.checkpoints.stage(
                name, lambda: _Run(network, slower, context, name, span, objective, keep, learned).run()
            )
        except SpecError as error:
            raise SpecError(error.message, f"{field}{error.where}") from error
        context.checkpoints.drop(f"{name}-running")
        return trained

    trained, facts = attempt(0)
    given_up: list[dict[str, Any]] = []
    samples = len(context.require_data(stage).validation)
    while keep == "best" and len(given_up) < spec.second_chances and ruined(facts["history"], samples):
        given_up.append({"learning_rate": spec.learning_rate / 10 ** len(given_up), "history": facts["history"]})
        context.progress(
            span[0], f"{stage}: a learning rate of {given_up[-1]['learning_rate']:g} ruins it; a tenth now"
        )
        trained, facts = attempt(len(given_up))
    if given_up:
        facts = {**facts, "learning_rate": spec.learning_rate / 10 ** len(given_up), "given_up": given_up}
    return trained, facts


def better(new: dict[str, float], best: dict[str, float], top: float, samples: int) -> bool:
    """Whether `new` validation metrics replace the `best`; `top`: the highest accuracy (without labels: agreement with
    the teacher) seen, `new` included.

    Such a share of few samples is coarse: of those within one standard error of the top, the lowest loss is the best.
    """
    if top1(new) is None:
        return new["score"] > best["score"]
    limit = top - _standard_error(top, samples)
    if new["score"] < limit or best["score"] < limit:
        return new["score"] >= limit
    return new["loss"] < best["loss"]


def ruined(history: Sequence[Mapping[str, float]], samples: int) -> bool:
    """Whether every validation was worse than the first one, before training; a share by more than one standard error
    of so many samples."""
    start, *later = history
    limit = start["score"]
    if top1(dict(start)) is not None:
        limit -= _standard_error(limit, samples)
    return all(entry["score"] < limit for entry in later)


def _standard_error(share: float, samples: int) -> float:
    return math.sqrt(max(share * (1 - share), 1 / samples) / samples)


class _Run:
    def __init__(
        self,
        network: Network,
        spec: Training,
        context: Context,
        stage: str,
        span: tuple[float, float],
        objective: MakeObjective,
        keep: Keep,
        learned: Mapping[str, Learned],
    ) -> None:
        self.data: Dataset = context.require_data(stage)
        self.spec, self.context, self.stage, self.span, self.keep = spec, context, stage, span, keep
        self.student = network.copy()
        self.module = self.student.module.to(context.device)
        if any(parameter.dim() == 4 for parameter in self.module.parameters()):
            self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # about 1.6 times faster convolutions on CPUs
        self.train_split = self.data.train.to(context.device)
        self.objective = objective(self.module, spec, context)
        self.objective.extra.to(context.device)
        self.learned = learned
        self.restricted = _restricted(self.module, {**network.encodings, **learned})
        for part in self.restricted.values():
            part.push()
        self.optimizer = _optimizer(self._trained(), spec)
        # A last batch of one sample has no variance for batch norm to divide by.
        samples = len(self.train_split)
        if min(spec.batch_size, samples) == 1 and any(
            isinstance(part, nn.BatchNorm1d) for part in self.module.modules()
        ):
            raise SpecError("batch norm needs batches of two samples or more", "/batch_size")
        self.steps_per_epoch = max(1, math.ceil((samples - (samples % spec.batch_size == 1)) / spec.batch_size))
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.best_free: dict[str, Tensor] = {}

    def run(self) -> tuple[Network, dict[str, Any]]:
        total = max(1, round(self.spec.epochs * self.steps_per_epoch))
        if not self._resume():
            self._validate()
        saved = shown = time.monotonic()
        order = self._order(self.progress.step // self.steps_per_epoch)
        running = 0.0
        while self.progress.step < total and not self._patience_is_over():
            epoch, index = divmod(self.progress.step, self.steps_per_epoch)
            if index == 0:
                order = self._order(epoch)
            running = self._step(order[index * self.spec.batch_size : (index + 1) * self.spec.batch_size], total)
            self.progress.step += 1
            now = time.monotonic()
            ended = index + 1 == self.steps_per_epoch or self.progress.step == total
            if ended:
                self._validate()
            if ended or now - shown > 0.5:
                shown = now
                self._report(total, running)
            if now - saved > self.context.save_seconds:
                saved = now
                self._save()
        self.module.load_state_dict(self.best)
        self.module.to("cpu").eval()
        progress = self.progress
        return self._settled(), {
            "history": progress.history,
            "best_epoch": progress.best_epoch,
            "loss": self.objective.kind,
        }

    def _settled(self) -> Network:
        """The student, with what its encodings have become."""
        settled = {name: encoding.settled(self.best_free[name]) for name, encoding in self.learned.items()}
        return self.student.replaced(encodings={**self.student.encodings, **settled})

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(_seed(self.context.seed, self.stage, epoch))
        return torch.randperm(len(self.train_split), generator=generator).to(self.context.device)

    def _step(self, chosen: Tensor, total: int) -> float:
        step = self.progress.step
        torch.manual_seed(_seed(self.context.seed, self.stage, -1 - step))  # dropout: the same draws after a resume
        for group in self.optimizer.param_groups:
            group["lr"] = self.spec.learning_rate * _schedule(self.spec, step, total)
        batch = self.train_split.take(chosen)
        self.module.train()
        loss = self.objective.loss(chosen, batch)
        for name, encoding in self.learned.items():
            loss = loss + encoding.penalty(self.restricted[name].free)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise MethodError(f"training diverged at step {step}: the loss is {value}; lower the learning rate", "loss")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for part in self.restricted.values():
            part.pull()
        self.optimizer.step()
        for part in self.restricted.values():
            part.push()
        return value

    def _trained(self) -> list[Tensor]:
        """What the optimizer moves: parameters, with the free values in place of those that an encoding restricts."""
        named = self.module.named_parameters()
        own = [self.restricted[name].free if name in self.restricted else value for name, value in named]
        return [*own, *self.objective.extra.parameters()]

    def _validate(self) -> None:
        epoch = round(self.progress.step / self.steps_per_epoch, 4)
        split = self.data.validation.to(self.context.device)
        outputs = outputs_of(self.module, split, self.context.device)
        metrics = metrics_of(outputs[-1], split.labels, self.data.task, self.objective.reference, self.objective.match)
        if not all(map(math.isfinite, metrics.values())):
            raise MethodError(f"training diverged by epoch {epoch:g}: {metrics}; lower the learning rate", "loss")
        progress = self.progress
        progress.history.append({"epoch": epoch, **metrics})
        progress.top = max(progress.top, top1(metrics) or 0.0)
        if self.keep == "last" or not progress.best or better(metrics, progress.best, progress.top, len(split)):
            progress.best, progress.best_epoch = metrics, epoch
            self.best_free = {name: self.restricted[name].free.detach().clone() for name in self.learned}
            self.best = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        shown = {name: value for name, value in metrics.items() if name != "score"}
        self.context.reporter.emit(
            "metric", index=self.context.reporter.index, stage=self.stage, epoch=epoch, split="validation", **shown
        )

    def _patience_is_over(self) -> bool:
        if self.spec.patience is None or self.progress.step % self.steps_per_epoch:
            return False
        return self.progress.step / self.steps_per_epoch - self.progress.best_epoch >= self.spec.patience

    def _report(self, total: int, loss: float) -> None:
        start, stop = self.span
        fraction = start + (stop - start) * self.progress.step / total
        epoch = self.progress.step / self.steps_per_epoch
        latest = {name: value for name, value in self.progress.history[-1].items() if name != "score"}
        latest["epoch"] = round(epoch, 4)  # of this loss; the other figures are those of the last validation
        message = f"{self.stage}, epoch {epoch:.1f} of {self.spec.epochs:g}"
        self.context.progress(fraction, message, training_loss=loss, **latest)

    def _save(self) -> None:
        tensors = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        tensors |= {f"extra.{name}": value for name, value in self.objective.extra.state_dict().items()}
        tensors |= {f"free.{name}": part.free for name, part in self.restricted.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {f"best_free.{name}": value for name, value in self.best_free.items()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in entries.items()}
        self.context.checkpoints.replace_file(
            f"{self.stage}-running", lambda path: _write_state(path, tensors, self.progress)
        )

    def _resume(self) -> bool:
        path = self.context.checkpoints.file(f"{self.stage}-running")
        if path is None:
            return False
        kinds = ("module", "extra", "free", "best", "best_free", "optimizer")
        parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in kinds}
        with safe_open(path, framework="pt", device=str(self.context.device)) as file:
            for key in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
                part, name = key.split(".", 1)
                parts[part][name] = file.get_tensor(key)
            self.progress = Progress(**json.loads(file.metadata()["progress"]))
        self.module.load_state_dict(parts["module"])
        self.objective.extra.load_state_dict(parts["extra"])
        for name, free in parts["free"].items():
            self.restricted[name].free.data.copy_(free)
        self.best, self.best_free = parts["best"], parts["best_free"]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimizer"].items():
            index, entry = name.split(".", 1)
            state.setdefault(int(index), {})[entry] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        return True


def _write_state(path: Path, tensors: dict[str, Tensor], progress: Progress) -> None:
    contiguous = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    save_file(contiguous, path, metadata={"progress": json.dumps(vars(progress))})


def _seed(seed: int, stage: str, number: int) -> int:
    """A seed of its own for each draw, so that none depends on how many were made before."""
    mixed = seed
    for part in (*stage.encode(), number & 0xFFFFFFFF):
        mixed = (mixed * 6364136223846793005 + part + 1442695040888963407) % 2**64  # Knuth's MMIX generator
    return mixed >> 1


def _schedule(spec: Training, step: int, total: int) -> float:
    """Linear warm-up over 5 % of the steps, then constant or a half cosine down to zero."""
    warm_up = max(1, round(WARM_UP * total))
    if step < warm_up:
        return (step + 1) / warm_up
    if spec.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


@dataclass
class _Restricted:
    """A parameter that an encoding restricts, and the free values behind it."""

    parameter: nn.Parameter
    encoding: Encoding | Learned
    free: nn.Parameter

    def pull(self) -> None:
        """Takes the gradient from the parameter to its free values, and adds it to that of their penalty."""
        gradient, self.parameter.grad = self.parameter.grad, None
        if gradient is not None:
            self.encoding.value(self.free).backward(gradient)  # type: ignore[no-untyped-call]

    def push(self) -> None:
        with torch.no_grad():
            self.parameter.copy_(self.encoding.value(self.free))


def _restricted(module: nn.Module, encodings: Mapping[str, Encoding | Learned]) -> dict[str, _Restricted]:
    parameters = dict(module.named_parameters())
    return {
        name: _Restricted(parameters[name], encoding, nn.Parameter(encoding.free(parameters[name].detach())))
        for name, encoding in encodings.items()
    }


def _optimizer(parameters: Sequence[Tensor], spec: Training) -> torch.optim.Optimizer:
    """Weights decay; biases and norm parameters (one axis or none) don't, nor do shared values."""
    decayed = [value for value in parameters if value.dim() > 1]
    others = [value for value in parameters if value.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if spec.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=spec.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=spec.learning_rate)
