"""The training loop: it learns, keeps the best weights, honours encodings; a resumed run equals an undisturbed one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from torch import Tensor

from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.data import Dataset, Split
from compression.encodings import Codebook, Mask
from compression.errors import MethodError, SpecError
from compression.events import Reporter
from compression.network import Network
from compression.training.loop import train
from compression.training.losses import label_loss, soft_label_loss
from compression.training.progress import better, ruined
from compression.training.spec import Training
from tests.engine.nets import Chain, network_of


class Killed(BaseException):
    """Stands for a SIGKILL inside this process: nothing after it runs."""


class KillingReporter(Reporter):
    """Ends the run when the training's place has been saved `saves` times."""

    def __init__(self, saves: int) -> None:
        super().__init__(io.StringIO())
        self.left = saves

    def emit(self, event: str, **fields: object) -> None:
        if event == "checkpoint" and str(fields["path"]).endswith("-running"):
            self.left -= 1
            if not self.left:
                raise Killed
        super().emit(event, **fields)


def blobs(count: int, seed: int) -> Split:
    """Five classes of 8 × 8 images, each with its own fixed pattern under noise."""
    patterns = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 5, (count,), generator=generator)
    return Split({"x": patterns[labels] + torch.randn(count, 1, 8, 8, generator=generator)}, labels)


def context_for(folder: Path, network: Network, reporter: Reporter | None = None, labelled: bool = True) -> Context:
    reporter = reporter or Reporter(io.StringIO())
    splits = [blobs(count, seed) for count, seed in ((330, 1), (200, 2), (200, 3))]
    if not labelled:
        splits = [Split(split.inputs, None) for split in splits]
    return Context(
        data=Dataset(*splits, "classification" if labelled else None),
        original=network,
        device=torch.device("cpu"),
        seed=7,
        reporter=reporter,
        checkpoints=Checkpoints(folder, "0-test", reporter),
        save_seconds=0.0,
    )


def state(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.module.state_dict().items()}


def test_it_learns_and_leaves_its_argument_alone(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    before = state(network)
    trained, facts = train(
        network, Training(epochs=8, learning_rate=0.05, loss="labels"), context_for(tmp_path, network), stage="a"
    )
    assert facts["history"][0]["accuracy"] < 0.5
    assert max(entry["accuracy"] for entry in facts["history"]) > 0.8
    assert all(torch.equal(value, before[name]) for name, value in state(network).items())
    assert not any(torch.equal(value, before[name]) for name, value in state(trained).items() if "weight" in name)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("saves", [1, 5, 9])
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path, optimizer: str, saves: int) -> None:
    network = network_of(Chain(), 1, 8, 8)
    keep = torch.rand(12, 8, 3, 3, generator=torch.Generator().manual_seed(0)) > 0.5
    network = network.replaced(encodings={"conv2.weight": Mask(keep)})
    network.project()
    spec = Training(epochs=2, optimizer=optimizer, learning_rate=0.02)  # type: ignore[arg-type]
    undisturbed, facts = train(network, spec, context_for(tmp_path / "a", network), stage="s")
    with pytest.raises(Killed):
        train(network, spec, context_for(tmp_path / "b", network, KillingReporter(saves)), stage="s")
    resumed, facts_after = train(network, spec, context_for(tmp_path / "b", network), stage="s")
    assert facts_after == facts
    for name, value in state(undisturbed).items():
        assert torch.equal(value, state(resumed)[name]), name
    weight = dict(resumed.module.named_parameters())["conv2.weight"]
    assert bool((weight[~keep] == 0).all())
    assert isinstance(resumed.encodings["conv2.weight"], Mask)
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").rglob("network.safetensors")}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "b").rglob("network.safetensors")}


def test_shared_weights_stay_shared(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    codes = torch.randint(0, 4, (20, 48), generator=torch.Generator().manual_seed(0))
    network = network.replaced(encodings={"hidden.weight": Codebook(codes)})
    network.project()
    trained, _ = train(network, Training(epochs=1), context_for(tmp_path, network), stage="s")
    weight = dict(trained.module.named_parameters())["hidden.weight"]
    assert len(torch.unique(weight)) == 4


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    """A rate that ruins the network: what comes back is the network it was given."""
    network = network_of(Chain(), 1, 8, 8)
    good, _ = train(
        network, Training(epochs=8, learning_rate=0.05, loss="labels"), context_for(tmp_path / "a", network), stage="a"
    )
    spec = Training(epochs=1, learning_rate=2.0, loss="labels", second_chances=0)
    again, facts = train(good, spec, context_for(tmp_path / "b", network), stage="b")
    assert facts["best_epoch"] == 0
    assert all(torch.equal(value, state(good)[name]) for name, value in state(again).items())


def test_a_run_that_diverges_is_repeated_with_a_tenth_of_the_rate(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    spec = Training(epochs=9, learning_rate=10, loss="teacher", weight_decay=1, second_chances=0)
    with pytest.raises(MethodError, match=r"diverged at step [1-9]"):
        train(network, spec, context_for(tmp_path / "a", network, labelled=False), stage="a")
    chances = spec.model_copy(update={"second_chances": 4})
    _, facts = train(network, chances, context_for(tmp_path / "b", network, labelled=False), stage="b")
    rates = [entry["learning_rate"] for entry in facts["given_up"]]
    assert rates == [10.0 / 10**number for number in range(len(rates))]
    assert facts["learning_rate"] == pytest.approx(rates[-1] / 10)
    assert facts["given_up"][0]["history"]  # of the start, at least


def test_a_network_whose_outputs_are_no_numbers_is_not_tried_again(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    with torch.no_grad():
        network.module.get_parameter("head.bias").fill_(float("nan"))
    reported = io.StringIO()
    with pytest.raises(MethodError, match="diverged by epoch 0"):
        train(network, Training(), context_for(tmp_path, network, Reporter(reported)), stage="s")
    assert "a tenth now" not in reported.getvalue()


def test_a_rate_that_ruins_the_network_is_lowered(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    damaged = network.copy()
    with torch.no_grad():
        for value in damaged.module.parameters():
            value += 0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    spec = Training(epochs=2, learning_rate=0.6)
    context = context_for(tmp_path, network, labelled=False)
    trained, facts = train(damaged, spec, context, stage="a")
    assert [entry["learning_rate"] for entry in facts["given_up"]] == [0.6]
    assert all(ruined(entry["history"], 200) for entry in facts["given_up"])
    assert facts["learning_rate"] == pytest.approx(0.06)
    assert facts["best_epoch"] > 0
    assert facts["history"][-1]["sqnr_db"] > facts["history"][0]["sqnr_db"] + 1
    again, same = train(damaged, spec, context, stage="a")  # nothing is trained twice
    assert same == facts
    assert all(torch.equal(value, state(trained)[name]) for name, value in state(again).items())


def test_a_worse_validation_within_its_error_ruins_nothing() -> None:
    def history(*accuracies: float) -> list[dict[str, float]]:
        return [{"score": value, "accuracy": value, "loss": 1.0} for value in accuracies]

    assert ruined(history(0.9, 0.1, 0.8), 100)
    assert not ruined(history(0.9, 0.1, 0.88), 100)  # a standard error is 3 points
    assert ruined([{"score": 20.0, "sqnr_db": 20.0}, {"score": 19.0, "sqnr_db": 19.0}], 100)
    assert not ruined([{"score": 20.0, "sqnr_db": 20.0}, {"score": 21.0, "sqnr_db": 21.0}], 100)


def test_divergence_and_missing_labels_are_named(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    with pytest.raises(MethodError, match="learning rate"):
        train(
            network,
            Training(epochs=9, learning_rate=10, loss="teacher", weight_decay=1, second_chances=0),
            context_for(tmp_path / "a", network.replaced(), labelled=False),
            stage="a",
        )
    with pytest.raises(SpecError, match="labels"):
        train(
            network,
            Training(loss="labels"),
            context_for(tmp_path / "b", network, labelled=False),
            stage="a",
        )


def test_without_labels_it_comes_back_to_the_original(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    damaged = network.copy()
    with torch.no_grad():
        for value in damaged.module.parameters():
            value += 0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    context = context_for(tmp_path, network, labelled=False)
    _, facts = train(damaged, Training(epochs=4, learning_rate=0.02), context, stage="a")
    first, last = facts["history"][0], facts["history"][-1]
    assert last["sqnr_db"] > first["sqnr_db"] + 3
    assert facts["loss"] == "teacher"


def test_patience_ends_the_run(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    spec = Training(epochs=50, learning_rate=0.05, patience=2, loss="labels")
    _, facts = train(network, spec, context_for(tmp_path, network), stage="a")
    assert len(facts["history"]) < 40
    assert facts["history"][-1]["epoch"] - facts["best_epoch"] == 2


def test_soft_labels_follow_hinton() -> None:
    """Against the formula written out; at high T, with T² scaling, it tends to the logits' squared error."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(6, 5, generator=generator), torch.randn(6, 5, generator=generator)
    temperature = 3.0
    p, q = torch.softmax(teacher / temperature, 1), torch.softmax(student / temperature, 1)
    expected = (p * (p / q).log()).sum(1).mean() * temperature**2
    assert float(soft_label_loss(student, teacher, temperature)) == pytest.approx(float(expected), rel=1e-5)
    difference = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    limit = difference.square().sum(1).mean() / (2 * 5)
    high = soft_label_loss(student.double(), teacher.double(), 1000.0)
    assert float(high) == pytest.approx(float(limit), rel=1e-2)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    picked = -torch.log_softmax(student, 1)[torch.arange(6), labels].mean()
    assert float(label_loss(student, labels, "classification")) == pytest.approx(float(picked), rel=1e-6)


def test_of_those_within_a_standard_error_of_the_top_the_lowest_loss_is_kept() -> None:
    def metrics(accuracy: float, loss: float) -> dict[str, float]:
        return {"score": accuracy, "accuracy": accuracy, "loss": loss}

    best = metrics(0.95, 0.30)
    assert better(metrics(0.945, 0.25), best, 0.95, 1000)
    assert not better(metrics(0.945, 0.35), best, 0.95, 1000)
    assert not better(metrics(0.90, 0.10), best, 0.95, 1000)
    assert better(metrics(0.97, 0.40), best, 0.97, 1000)
    best, top = metrics(0.95, 0.30), 0.95
    for step in range(1, 60):  # a chain of small losses doesn't carry the accuracy away
        new = metrics(0.95 - 0.005 * step, 0.30 - 0.002 * step)
        best = new if better(new, best, top, 1000) else best
    assert best["accuracy"] >= 0.94
