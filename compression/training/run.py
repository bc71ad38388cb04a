"""One run of training: its steps, its validations, and its place, saved so that a killed run goes on unchanged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from compression.context import Context
from compression.data import Dataset
from compression.encodings import Learned, Mask
from compression.errors import MethodError, SpecError
from compression.network import Network
from compression.training.evaluate import metrics_of, outputs_of, top1
from compression.training.objective import Objective
from compression.training.optimizer import draw_seed, optimizer_for, rate_share
from compression.training.place import optimizer_tensors, read_place, restore_optimizer, write_place
from compression.training.progress import Progress, better
from compression.training.restricted import restricted
from compression.training.spec import Training
from compression.training.tightening import Tightening

MakeObjective = Callable[[fx.GraphModule, Training, Context], Objective]
"""Given the module that is trained, on the run's device."""
Keep = Literal["best", "last"]
"""Which weights: the best on validation, or the last ones (where something else than the outputs gets better too)."""


@dataclass(frozen=True)
class Course:
    """What a run is besides its network and its data. `stage` names its checkpoints; `span` is its part of the step's
    progress; `learned` and `tightening` are the encodings that change while it lasts."""

    spec: Training
    stage: str
    span: tuple[float, float]
    objective: MakeObjective
    keep: Keep
    learned: Mapping[str, Learned]
    tightening: Tightening | None


class Diverged(MethodError):
    """The loss, or what it came to on validation, is no number any more; `history` by epoch until then."""

    def __init__(self, message: str, history: list[dict[str, float]]) -> None:
        super().__init__(message, "loss")
        self.history = history


class Run:
    """Made anew for each attempt; `run` gives the network that was the best, or the last, and the run's facts."""

    def __init__(self, network: Network, course: Course, context: Context) -> None:
        self.data: Dataset = context.require_data(course.stage)
        self.course, self.spec, self.context = course, course.spec, context
        spec = course.spec
        self.student = network.copy()
        self.module = self.student.module.to(context.device)
        if any(parameter.dim() == 4 for parameter in self.module.parameters()):
            self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # about 1.6 times faster convolutions on CPUs
        self.train_split = self.data.train.to(context.device)
        self.objective = course.objective(self.module, spec, context)
        self.objective.extra.to(context.device)
        self.learned = course.learned
        masked = {} if course.tightening is None else _masks(network, course.tightening)
        self.restricted = restricted(self.module, {**network.encodings, **self.learned, **masked})
        for part in self.restricted.values():
            part.push()
        self.optimizer = optimizer_for(self._trained(), spec)
        # A last batch of one sample has no variance for batch norm to divide by.
        samples = len(self.train_split)
        if min(spec.batch_size, samples) == 1 and any(
            isinstance(part, nn.BatchNorm1d) for part in self.module.modules()
        ):
            raise SpecError("batch norm needs batches of two samples or more", "/batch_size")
        self.steps_per_epoch = spec.steps_per_epoch(samples)
        self.total = max(1, round(spec.epochs * self.steps_per_epoch))
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.best_free: dict[str, Tensor] = {}

    def run(self) -> tuple[Network, dict[str, Any]]:
        if not self._resume():
            self._validate()
        saved = shown = time.monotonic()
        order = self._order(self.progress.step // self.steps_per_epoch)
        running = 0.0
        while self.progress.step < self.total and not self._patience_is_over():
            epoch, index = divmod(self.progress.step, self.steps_per_epoch)
            if index == 0:
                order = self._order(epoch)
            self._tighten()
            running = self._step(order[index * self.spec.batch_size : (index + 1) * self.spec.batch_size])
            self.progress.step += 1
            now = time.monotonic()
            ended = index + 1 == self.steps_per_epoch or self.progress.step == self.total
            if ended:
                self._validate()
            if ended or now - shown > 0.5:
                shown = now
                self._report(running)
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
        masks = {name: Mask(mask.keep.cpu()) for name, mask in self._tightened().items()}
        return self.student.replaced(encodings={**self.student.encodings, **settled, **masks})

    def _tightened(self) -> dict[str, Mask]:
        """The masks of this moment that may still lose weights."""
        names = () if self.course.tightening is None else self.course.tightening.names
        found = {name: self.restricted[name].encoding for name in names}
        return {name: mask for name, mask in found.items() if isinstance(mask, Mask)}

    def _tighten(self) -> None:
        if self.course.tightening is None:
            return
        masks = self._tightened()
        weights = {name: self.restricted[name].parameter.detach() for name in masks}
        for name, mask in (self.course.tightening.masks(self.progress.step, self.total, weights, masks) or {}).items():
            self.restricted[name].restrict(mask)

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(draw_seed(self.context.seed, self.course.stage, epoch))
        return torch.randperm(len(self.train_split), generator=generator).to(self.context.device)

    def _step(self, chosen: Tensor) -> float:
        step = self.progress.step
        # Dropout: the same draws after a resume.
        torch.manual_seed(draw_seed(self.context.seed, self.course.stage, -1 - step))
        for group in self.optimizer.param_groups:
            group["lr"] = self.spec.learning_rate * rate_share(self.spec, step, self.total)
        batch = self.train_split.take(chosen)
        self.module.train()
        loss = self.objective.loss(chosen, batch)
        for name, encoding in self.learned.items():
            loss = loss + encoding.penalty(self.restricted[name].free)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._diverged(f"training diverged at step {step}: the loss is {value}; lower the learning rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for part in self.restricted.values():
            part.pull()
        self.optimizer.step()
        for part in self.restricted.values():
            part.push()
        return value

    def _diverged(self, message: str) -> MethodError:
        """Before the first step no learning rate has had a part in it."""
        return Diverged(message, self.progress.history) if self.progress.step else MethodError(message, "loss")

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
            raise self._diverged(f"training diverged by epoch {epoch:g}: {metrics}; lower the learning rate")
        progress = self.progress
        progress.history.append({"epoch": epoch, **metrics})
        tightening = self.course.tightening
        final = tightening is None or tightening.complete(progress.step, self.total)
        if final:  # weights that have yet to lose some aren't what is wanted
            self._keep_if_better(metrics, epoch, len(split))
        shown = {name: value for name, value in metrics.items() if name != "score"}
        reporter = self.context.reporter
        reporter.emit("metric", index=reporter.index, stage=self.course.stage, epoch=epoch, split="validation", **shown)

    def _keep_if_better(self, metrics: dict[str, float], epoch: float, samples: int) -> None:
        progress = self.progress
        progress.top = max(progress.top, top1(metrics) or 0.0)
        if self.course.keep == "last" or not progress.best or better(metrics, progress.best, progress.top, samples):
            progress.best, progress.best_epoch = metrics, epoch
            self.best_free = {name: self.restricted[name].free.detach().clone() for name in self.learned}
            self.best = {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def _patience_is_over(self) -> bool:
        if self.spec.patience is None or self.progress.step % self.steps_per_epoch or not self.progress.best:
            return False
        return self.progress.step / self.steps_per_epoch - self.progress.best_epoch >= self.spec.patience

    def _report(self, loss: float) -> None:
        start, stop = self.course.span
        fraction = start + (stop - start) * self.progress.step / self.total
        epoch = self.progress.step / self.steps_per_epoch
        latest = {name: value for name, value in self.progress.history[-1].items() if name != "score"}
        latest["epoch"] = round(epoch, 4)  # of this loss; the other figures are those of the last validation
        message = f"{self.course.stage}, epoch {epoch:.1f} of {self.spec.epochs:g}"
        self.context.progress(fraction, message, training_loss=loss, **latest)

    def _save(self) -> None:
        parts = {
            "module": self.module.state_dict(),
            "extra": self.objective.extra.state_dict(),
            "free": {name: part.free for name, part in self.restricted.items()},
            "best": self.best,
            "best_free": self.best_free,
            "optimizer": optimizer_tensors(self.optimizer),
            "mask": {name: mask.keep for name, mask in self._tightened().items()},
        }
        self.context.checkpoints.replace_file(
            f"{self.course.stage}-running", lambda path: write_place(path, parts, self.progress)
        )

    def _resume(self) -> bool:
        path = self.context.checkpoints.file(f"{self.course.stage}-running")
        if path is None:
            return False
        parts, self.progress = read_place(path, self.context.device)
        self.module.load_state_dict(parts["module"])
        self.objective.extra.load_state_dict(parts["extra"])
        for name, free in parts["free"].items():
            self.restricted[name].free.data.copy_(free)
        for name, keep in parts["mask"].items():
            self.restricted[name].encoding = Mask(keep)
        self.best, self.best_free = parts["best"], parts["best_free"]
        restore_optimizer(self.optimizer, parts["optimizer"])
        return True


def _masks(network: Network, tightening: Tightening) -> dict[str, Mask]:
    """Those to begin with: the network's own, or nothing masked."""
    found = {}
    for name in tightening.names:
        encoding = network.encodings.get(name)
        parameter = network.module.get_parameter(name)
        found[name] = encoding if isinstance(encoding, Mask) else Mask(torch.ones_like(parameter, dtype=torch.bool))
    return found
