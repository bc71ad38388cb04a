"""What the report says, by hand and by brute force: calibration, mean rows, biases of classes never seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from compression.distillation.bias import by_labels, by_prior, cross_fitted, with_added_bias
from compression.distillation.findings import calibration_error, gap_closed, learned, mean_rows, recall
from compression.encodings import Mask
from compression.errors import MethodError
from tests.engine.distillation.lessons import network
from tests.engine.nets import Chain, network_of


def test_calibration_error_by_hand() -> None:
    """Four samples in two of 15 bins: confidences 0.62, 0.64 (one right) and 0.92, 0.91 (both right)."""
    confidences = np.array([0.62, 0.64, 0.92, 0.91])
    logits = torch.tensor(np.log(np.stack([confidences, 1 - confidences], 1)))
    labels = torch.tensor([0, 1, 0, 0])
    expected = (abs(1 - (0.62 + 0.64)) + abs(2 - (0.92 + 0.91))) / 4
    assert calibration_error(logits, labels) == pytest.approx(expected)
    # Three bins: (1/3, 2/3] holds the first two, (2/3, 1] the others; one bin has all.
    assert calibration_error(logits, labels, 1) == pytest.approx(abs(3 - confidences.sum()) / 4)
    sure = torch.tensor([[50.0, 0.0], [50.0, 0.0]])
    assert calibration_error(sure, torch.tensor([0, 1])) == pytest.approx(0.5)  # a confidence of 1 has a bin


def test_mean_rows_and_what_they_become_in_the_report() -> None:
    random = np.random.default_rng(0)
    logits, classes = 2 * random.normal(size=(40, 4)), random.integers(0, 3, 40)
    rows = mean_rows(torch.tensor(logits), torch.tensor(classes), 3.0)
    for index in range(3):
        np.testing.assert_allclose(rows[index], softmax(logits[classes == index] / 3, 1).mean(0))
    assert bool(rows[3].isnan().all())
    tensor = torch.tensor(logits)
    told = learned((tensor, tensor), tensor + 1, torch.tensor(classes), 3.0, ["a", "b", "c", "d"])
    assert told["classes"] == ["a", "b", "c", "d"]
    assert told["teacher_at_t"][0] == pytest.approx([float(f"{value:.3g}") for value in rows[0].tolist()])
    assert told["student_at_t"] == told["teacher_at_t"]  # one number added to every logit changes nothing
    assert told["teacher_at_1"] != told["teacher_at_t"]
    assert told["teacher_at_1"][3] == [None] * 4


def test_many_classes_are_told_by_the_pairs_that_look_most_alike() -> None:
    logits = torch.zeros(40, 40).fill_diagonal_(9.0)
    logits[3, 17] = 8.0
    told = learned((logits, logits), logits, torch.arange(40), 1.0, ())
    assert len(told["pairs"]) == 50
    assert (told["pairs"][0]["class"], told["pairs"][0]["looks_like"]) == ("3", "17")
    assert told["pairs"][0]["teacher_at_1"] == pytest.approx(softmax(logits[3].numpy())[17], rel=1e-2)


def test_the_gap_and_recall() -> None:
    assert gap_closed(0.95, 0.90, 0.96) == pytest.approx(5 / 6)
    assert gap_closed(0.95, 0.90, 0.90) is None
    logits = torch.eye(3)[[0, 1, 1, 2]]
    labels = torch.tensor([0, 1, 2, 2])
    assert recall(logits, labels, 2) == 0.5
    assert recall(logits, torch.tensor([0, 1, 1, 0]), 2) is None


def unseen(samples: int = 400) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of a network that knows four classes well, but for a logit of the last that is 6 too low; labels; and the
    logits as they should be."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples) % 4
    right = 3.0 * torch.eye(4)[labels] + torch.randn(samples, 4, generator=generator)
    return right - torch.tensor([0, 0, 0, 6.0]), labels, right


def test_the_bias_by_labels_is_the_likeliest_of_the_best() -> None:
    logits, labels, right = unseen()
    added = by_labels(logits, labels, [3])
    assert added[:3].tolist() == [0, 0, 0]

    def correct(bias: float) -> int:
        return int(((logits + torch.tensor([0, 0, 0, bias])).argmax(1) == labels).sum())

    def surprise(bias: float) -> float:
        return -float(log_softmax((logits + torch.tensor([0, 0, 0, bias])).numpy(), 1)[range(400), labels].mean())

    best = max(correct(bias) for bias in np.linspace(-2, 12, 2801))
    assert correct(float(added[3])) >= best - (best * (1 - best / 400)) ** 0.5
    likeliest = minimize_scalar(surprise, bounds=(-2, 12), method="bounded").x
    assert float(added[3]) == pytest.approx(likeliest, abs=1e-3)
    assert recall(logits, labels, 3) == 0
    assert recall(logits + added, labels, 3) == pytest.approx(recall(right, labels, 3), abs=0.05)
    both = by_labels(logits - torch.tensor([0, 0, 4.0, 0]), labels, [2, 3])
    assert both[2:].tolist() == pytest.approx([4, 6], abs=0.9)


def test_a_bias_that_is_likely_but_wrong_too_often_is_not_taken() -> None:
    """One sample of the class is far off, and the likeliest bias follows it; the most right say otherwise."""
    logits = torch.zeros(100, 2)
    labels = torch.arange(100) % 2
    logits[:, 1] = torch.where(labels == 1, -2.0, -6.0)  # 2 to 6 is what the bias should be
    logits[1, 1] = -90.0
    fitting = by_labels(logits, labels, [1])
    assert 2 < float(fitting[1]) < 6
    assert int(((logits + fitting).argmax(1) == labels).sum()) == 99
    assert recall(logits + by_labels(logits, torch.zeros(100, dtype=torch.long), [1]), labels, 1) == 0  # none has it


def test_the_bias_by_the_teachers_prior_needs_no_labels() -> None:
    logits, _, right = unseen()
    added = by_prior(logits, right, [3])
    assert added.tolist() == pytest.approx([0, 0, 0, 6], abs=1e-6)  # the student is the teacher but for this
    both = by_prior(logits - torch.tensor([0, 0, 4.0, 0]), right, [2, 3])
    assert both.tolist() == pytest.approx([0, 0, 4, 6], abs=1e-3)


def test_a_cross_fitted_bias_owes_nothing_to_its_own_sample() -> None:
    logits, labels, _ = unseen(40)

    def fit(given: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        assert len(given) == len(known) == 32
        return by_labels(given, known, [3])

    found = cross_fitted(logits, labels, fit)
    assert logits.dtype == torch.float32
    own = (found - logits)[:, 3]
    assert torch.equal((found - logits)[:, :3], torch.zeros(40, 3, dtype=torch.float64))
    assert len(own.unique()) > 1
    for sample in (3, 22):
        lied = labels.clone()
        lied[sample] = 3 - lied[sample]
        assert cross_fitted(logits, lied, fit)[sample, 3] == found[sample, 3]
    assert torch.equal(cross_fitted(logits.double(), labels, fit), found)


def test_the_bias_is_part_of_the_last_layer() -> None:
    given = network()
    x = given.example(3)
    added = torch.tensor([0, 0, 0, 1.5, 0], dtype=torch.float64)
    corrected = with_added_bias(given, added, 0)
    torch.testing.assert_close(corrected.module(*x), given.module(*x) + added.float())
    masked = given.replaced(encodings={"f3.bias": Mask(torch.ones(5, dtype=torch.bool))})
    with pytest.raises(MethodError, match="linear layer"):
        with_added_bias(masked, added, 0)

    class Ends(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(super().forward(x))

    with pytest.raises(MethodError, match="linear layer"):
        with_added_bias(network_of(Ends(), 1, 8, 8), added, 0)
