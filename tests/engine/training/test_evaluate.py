"""What a network is judged by on validation, against formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from compression.training.evaluate import metrics_of, top1
from compression.training.progress import better


def test_without_labels_a_classifier_is_judged_by_agreement_and_divergence() -> None:
    """Scaled logits agree in every top-1 and have half of the signal as noise: SQNR would call them bad."""
    teacher = torch.randn(50, 5, generator=torch.Generator().manual_seed(0)) * 3
    scaled, shifted = metrics_of(teacher * 2, None, None, teacher, "softmax"), teacher.roll(1, 1)
    assert (scaled["score"], scaled["agreement"]) == (1.0, 1.0)
    assert scaled["sqnr_db"] == pytest.approx(0.0, abs=1e-9)
    p, q = softmax(teacher.double().numpy(), 1), softmax(2 * teacher.double().numpy(), 1)
    assert scaled["loss"] == pytest.approx(float((p * np.log(p / q)).sum(1).mean()), rel=1e-6)
    wrong = metrics_of(shifted, None, None, teacher, "softmax")
    assert wrong["score"] == float((shifted.argmax(1) == teacher.argmax(1)).double().mean())
    # Coarse as an accuracy is: within one standard error of the top, the lower divergence is kept.
    assert better({**scaled, "score": 0.99, "loss": 0.1}, scaled, 1.0, 50)
    assert not better({**scaled, "score": 0.5, "loss": 0.1}, scaled, 1.0, 50)
    # What is matched by squared error is judged by it.
    assert metrics_of(teacher * 2, None, None, teacher)["score"] == scaled["sqnr_db"]
    assert top1(metrics_of(teacher * 2, None, None, teacher)) is None
