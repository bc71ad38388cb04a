"""Losses and combinations against formulas written out, and gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, rel_entr, softmax

from compression.distillation.teachers import combine
from compression.training.losses import cosine_loss, soft_label_loss, soft_sigmoid_loss, training_loss
from compression.training.spec import Training

RANDOM = np.random.default_rng(0)
STUDENT, TEACHER = RANDOM.normal(size=(6, 5)), 3 * RANDOM.normal(size=(6, 5))


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_the_gradient_is_hintons(temperature: float) -> None:
    """Hinton et al. 2015, equation 2, times T²: T (softmax(z/T) − softmax(v/T)) for each sample, over N; and finite
    differences of the loss say the same."""
    z = torch.tensor(STUDENT, requires_grad=True)
    soft_label_loss(z, torch.tensor(TEACHER), temperature).backward()
    expected = temperature * (softmax(STUDENT / temperature, 1) - softmax(TEACHER / temperature, 1)) / len(STUDENT)
    assert z.grad is not None
    np.testing.assert_allclose(z.grad.numpy(), expected, atol=1e-12)
    step = 1e-5
    for place in ((0, 0), (3, 4)):
        moved = [STUDENT.copy(), STUDENT.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        up, down = (float(soft_label_loss(torch.tensor(m), torch.tensor(TEACHER), temperature)) for m in moved)
        assert float(z.grad[place]) == pytest.approx((up - down) / (2 * step), abs=1e-8)


def test_sigmoid_and_cosine_losses() -> None:
    t = 3.0
    p, q = expit(TEACHER / t), expit(STUDENT / t)
    expected = (rel_entr(p, q) + rel_entr(1 - p, 1 - q)).mean() * t**2
    assert float(soft_sigmoid_loss(torch.tensor(STUDENT), torch.tensor(TEACHER), t)) == pytest.approx(expected)
    cosine = (STUDENT * TEACHER).sum(1) / np.linalg.norm(STUDENT, axis=1) / np.linalg.norm(TEACHER, axis=1)
    assert float(cosine_loss(torch.tensor(STUDENT), torch.tensor(TEACHER))) == pytest.approx(1 - cosine.mean())


def test_labels_and_teacher_are_weighed_by_alpha() -> None:
    labels = np.array([0, 1, 2, 3, 4, 0])
    spec = Training(loss="both", temperature=4.0, alpha=0.7)
    hard = -np.log(softmax(STUDENT, 1)[np.arange(6), labels]).mean()
    soft = 16 * rel_entr(softmax(TEACHER / 4, 1), softmax(STUDENT / 4, 1)).sum(1).mean()
    loss = training_loss([torch.tensor(STUDENT)], [torch.tensor(TEACHER)], torch.tensor(labels), "classification", spec)
    assert float(loss) == pytest.approx(0.3 * hard + 0.7 * soft)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_an_ensemble_is_the_mean_of_softened_probabilities_or_of_logits(temperature: float) -> None:
    logits = [TEACHER, STUDENT, RANDOM.normal(size=(6, 5))]
    weights = [0.5, 0.3, 0.2]
    tensors = [torch.tensor(value) for value in logits]
    mean = sum(w * softmax(value / temperature, 1) for w, value in zip(weights, logits, strict=True))
    found = combine(tensors, weights, "probabilities", "softmax", temperature).numpy()
    np.testing.assert_allclose(softmax(found / temperature, 1), mean, rtol=1e-10)
    yes = sum(w * expit(value / temperature) for w, value in zip(weights, logits, strict=True))
    found = combine(tensors, weights, "probabilities", "sigmoid", temperature).numpy()
    np.testing.assert_allclose(expit(found / temperature), yes, rtol=1e-10)
    plain = sum(w * value for w, value in zip(weights, logits, strict=True))
    for how, match in (("logits", "softmax"), ("probabilities", "mse")):
        np.testing.assert_allclose(combine(tensors, weights, how, match, temperature).numpy(), plain)  # type: ignore[arg-type]
