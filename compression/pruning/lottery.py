"""The lottery experiment: for each kind of pruning, learning rate and seed, rounds of prune, rewind and train.

A round is a checkpoint: it holds the trained ticket, from which the next round goes on, and what each arm came to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compression.distillation.student import fresh
from compression.errors import MethodError, SpecError
from compression.measure.cost import cost_of
from compression.network import Network
from compression.pruning.lottery_findings import findings
from compression.pruning.tickets import Kind, Scope, drawn_anew, left_of, signs_alone, smaller, with_weights_of
from compression.registry import StepResult
from compression.training.loop import train
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.methods.prune.lottery import PruneLottery

OF_WEIGHTS_ALONE = frozenset({"signs", "random_signs"})
Judge = Callable[[Network], dict[str, float]]


@dataclass(frozen=True)
class Lot:
    """One column of the experiment: what is pruned, at which rate, with which seed."""

    kind: Kind
    rate: float
    seed: int

    @property
    def stage(self) -> str:
        return f"{self.kind}-{self.rate!r}-seed-{self.seed}"


@dataclass
class Experiment:
    """`sizes`: the share left after each round. `done` counts trainings. `judge` gives figures to be told of each
    trained network besides its history."""

    network: Network
    spec: PruneLottery
    context: Context
    sizes: Sequence[float]
    judge: Judge = lambda _: {}
    done: int = 0

    def lots(self) -> list[Lot]:
        rates = [self.spec.training.learning_rate]
        rates += [] if self.spec.small_rate is None else [self.spec.small_rate]
        return [Lot(kind, rate, seed) for kind in self.spec.kinds for rate in rates for seed in range(self.spec.seeds)]

    def arms(self, kind: Kind) -> list[str]:
        return [arm for arm in self.spec.arms if kind == "weights" or arm not in OF_WEIGHTS_ALONE]

    def trainings(self) -> int:
        return sum(1 + len(self.sizes) * (1 + len(self.arms(lot.kind))) for lot in self.lots())

    def rounds(self, lot: Lot) -> tuple[Network, list[dict[str, Any]]]:
        """The trained ticket of the last round, and of each round, the whole network first, what its arms came to."""
        initial = self._initial(lot)
        start, whole = initial, cost_of(initial).parameters
        trained, facts = self._round(lot, 0, {"dense": (initial, 1.0)}, 1.0)
        found = [facts]
        for number, left in enumerate(self.sizes, start=1):
            parent, ancestor = trained, start
            start = smaller(ancestor, parent, lot.kind, self.spec.scope, left, whole)
            inherited = smaller(parent, parent, lot.kind, self.spec.scope, left, whole)
            starts = self._starts(lot, number, start, inherited, initial)
            trained, facts = self._round(lot, number, starts, left_of(start, lot.kind, whole))
            found.append(facts)
        return trained, found

    def _initial(self, lot: Lot) -> Network:
        """The first weights, or those after `rewind_step` steps."""
        seed = self.context.seed + lot.seed
        if self.spec.initial is None:
            initial = fresh(self.network, seed)
        else:
            given = self.context.model(self.spec.initial)
            if not isinstance(given, Network):
                raise SpecError(f"it can't be trained: {given.stopped_by.why}", "/initial")
            try:
                initial = with_weights_of(self.network, given)
            except MethodError as error:
                raise SpecError(f"it isn't the job's model before training: {error}", "/initial") from error
        if not self.spec.rewind_step:
            return initial
        samples = len(self.context.require_data("prune.lottery").train)
        epochs = self.spec.rewind_step / self.spec.training.steps_per_epoch(samples)
        training = self._training(lot, 1.0).model_copy(update={"epochs": epochs, "schedule": "constant"})
        context, stage = replace(self.context, seed=seed), f"{lot.stage}-early"
        return train(initial, training, context, stage=stage, span=self._span(), keep="last")[0]

    def _starts(
        self, lot: Lot, number: int, start: Network, inherited: Network, initial: Network
    ) -> dict[str, tuple[Network, float]]:
        """By arm: the network that it starts from, and how many times the epochs it is trained."""
        seed = (self.context.seed + lot.seed) * 1000 + number
        again = drawn_anew(start, seed, as_classes_do=self.spec.initial is None)
        saved = cost_of(self.network).macs / max(1, cost_of(start).macs)
        if lot.kind == "weights":
            saved = cost_of(self.network).nonzero / max(1, cost_of(start).nonzero)
        found = {"rewind": (start, 1.0), "finetune": (inherited, 1.0), "random": (again, 1.0)}
        found["scratch_b"] = (again, min(self.spec.budget, saved))
        if lot.kind == "weights":
            found |= {"signs": (signs_alone(start, initial), 1.0)}
            found |= {"random_signs": (signs_alone(start, initial, seed), 1.0)}
        return {arm: found[arm] for arm in ["rewind", *self.arms(lot.kind)]}

    def _round(
        self, lot: Lot, number: int, starts: dict[str, tuple[Network, float]], left: float
    ) -> tuple[Network, dict[str, Any]]:
        """The trained network of the first of `starts`, and facts of all."""
        stages = {arm: f"{lot.stage}-round-{number}-{arm}" for arm in starts}
        before = self.done

        def work() -> tuple[Network, dict[str, Any]]:
            trained, runs = {}, {}
            for arm, (start, times) in starts.items():
                trained[arm], runs[arm] = self._trained(lot, start, times, stages[arm])
            return next(iter(trained.values())), {"weights_left": left, "runs": runs}

        found = self.context.checkpoints.stage(f"{lot.stage}-round-{number}", work)
        for stage in stages.values():
            self.context.checkpoints.drop(stage)
        self.done = before + len(starts)
        return found

    def _trained(self, lot: Lot, start: Network, times: float, stage: str) -> tuple[Network, dict[str, Any]]:
        training = self._training(lot, times)
        context = replace(self.context, seed=self.context.seed + lot.seed)
        trained, facts = train(start, training, context, stage=stage, span=self._span())
        self.done += 1
        steps = training.steps_per_epoch(len(context.require_data(stage).train))
        best = next(entry for entry in facts["history"] if entry["epoch"] == facts["best_epoch"])
        stopped = min(facts["history"], key=lambda entry: entry.get("loss", -entry["score"]))
        return trained, {
            "score": best["score"],
            "stopped_at": round(stopped["epoch"] * steps),
            "curve": [[round(entry["epoch"] * steps), entry["score"]] for entry in facts["history"]],
            **self.judge(trained),
        }

    def _training(self, lot: Lot, times: float) -> Training:
        """The rate is what is asked about: it stays as it is, whatever it does to a network. Where there are labels the
        trained network is no teacher, unless that is asked for: it would tell tickets more than they are to know."""
        given = self.spec.training
        changed: dict[str, Any] = {"learning_rate": lot.rate, "epochs": given.epochs * times, "second_chances": 0}
        if given.loss == "auto" and self.context.require_data("prune.lottery").task is not None:
            changed["loss"] = "labels"
        return given.model_copy(update=changed)

    def _span(self) -> tuple[float, float]:
        count = self.trainings()
        return self.done / count, min(1.0, (self.done + 1) / count)


def _check_reach(network: Network, scope: Scope, left: float) -> None:
    """A size that channels can't be cut to is refused now, not after all but the last round."""
    try:
        smaller(network, network, "structured", scope, left, cost_of(network).parameters)
    except MethodError as error:
        raise SpecError(f"channels can't be cut so far: {error.message}", "/kinds") from error


def drawn_lots(network: Network, spec: PruneLottery, context: Context) -> StepResult:
    """The best ticket of the last round, chosen on validation, and what the experiment found."""
    data = context.require_data("prune.lottery")
    sizes = [(1 - spec.sparsity) ** (number / spec.rounds) for number in range(1, spec.rounds + 1)]
    experiment = Experiment(network, spec, context, sizes)
    columns: dict[Lot, list[dict[str, Any]]] = {}
    best: tuple[float, Lot, Network] | None = None
    if "structured" in spec.kinds:
        _check_reach(network, spec.scope, sizes[-1])
    for lot in experiment.lots():
        trained, columns[lot] = experiment.rounds(lot)
        score = columns[lot][-1]["runs"]["rewind"]["score"]
        if best is None or score > best[0]:
            best = score, lot, trained
    assert best is not None  # noqa: S101 - the spec has at least one kind
    score, lot, ticket = best
    told = {"kind": lot.kind, "learning_rate": lot.rate, "seed": lot.seed, "score": score}
    told |= {"weights_left": columns[lot][-1]["weights_left"], "rewound_to_step": spec.rewind_step}
    found = findings(columns, spec, data.task, len(data.validation))
    record = {"step": "prune.lottery", **told}
    ticket = ticket.replaced(provenance=(*network.provenance, record), delivery=network.delivery)
    return StepResult(ticket, {"judged_on": "the validation split", "ticket": told, "lottery": found})
