"""Everything that is measured on two `.onnx` files: the original's and the compressed network's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.errors import VerificationError
from compression.measure.accuracy import (
    Classification,
    Fidelity,
    MultiLabel,
    PairedAccuracy,
    PairedError,
    PairedF1,
    Regression,
    classification,
    compare_classification,
    compare_multilabel,
    compare_regression,
    fidelity,
    multilabel,
    regression,
)
from compression.measure.claims import (
    Claim,
    accuracy_claim,
    baseline_claims,
    broken_claims,
    error_claim,
    f1_baseline_claims,
    f1_claim,
    fidelity_baseline_claims,
    fidelity_claim,
    latency_claim,
    memory_claim,
    unmeasured_claim,
)
from compression.measure.footprint import peak_bytes
from compression.measure.runtime import (
    Comparison,
    NodeTime,
    Shapes,
    compare_latency,
    load_seconds,
    open_session,
    predict,
    random_inputs,
    static_batch,
    time_by_node,
)

Array = NDArray[np.generic]
BATCHES = (1, 64)


@dataclass(frozen=True)
class Quality:
    """Figures on the test split. With class indices `original` and `compressed` are Classification, with bool labels
    MultiLabel, with float labels Regression, without labels None. `fidelity` is of the compressed network against
    the original, always."""

    original: Classification | MultiLabel | Regression | None
    compressed: Classification | MultiLabel | Regression | None
    paired: PairedAccuracy | PairedF1 | PairedError | None
    fidelity: Fidelity


@dataclass(frozen=True)
class Side:
    """One file: seconds to load it, bytes that loading and running it takes (None where the system doesn't tell), and
    its nodes' times at batch 1, slowest first."""

    load_seconds: float
    peak_bytes: int | None
    nodes: list[NodeTime]


@dataclass(frozen=True)
class Delivered:
    """`latency` for each batch size; `quality` is None where no data was given (then latency is of random inputs)."""

    original: Side
    compressed: Side
    latency: list[Comparison]
    quality: Quality | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def claims(self) -> list[Claim]:
        claims = [] if self.quality is not None else [unmeasured_claim()]
        if self.quality is not None:
            paired = self.quality.paired
            original = self.quality.original
            if isinstance(original, Classification):
                claims += baseline_claims(original.top1, original.chance)
            if isinstance(original, MultiLabel):
                claims += f1_baseline_claims(original)
            claims += broken_claims(original, self.quality.compressed)
            if isinstance(paired, PairedAccuracy):
                claims.append(accuracy_claim(paired))
            elif isinstance(paired, PairedF1):
                claims.append(f1_claim(paired))
            elif isinstance(paired, PairedError):
                claims.append(error_claim(paired))
            else:
                claims += fidelity_baseline_claims(self.quality.fidelity)
                claims.append(fidelity_claim(self.quality.fidelity))
        claims += [latency_claim(comparison) for comparison in self.latency]
        if self.original.peak_bytes and self.compressed.peak_bytes:
            claims.append(memory_claim(self.original.peak_bytes, self.compressed.peak_bytes))
        return claims


def measure_delivered(
    original: Path,
    compressed: Path,
    inputs: Mapping[str, Array] | None,
    labels: Array | None,
    seconds: float = 3.0,
    shapes: Shapes | None = None,
) -> Delivered:
    """Measures two `.onnx` files with the same signature on the same samples, in ONNX Runtime on one thread.

    `inputs`: the test split by input name (N × …), or None: random samples, for latency alone. `labels`: class indices
    (N, integer), multi-label (N × …, bool), targets (N × …, float) or None. Of several outputs the last is judged.
    `seconds`: about how long latency is measured, for each batch size; a file with a batch of its own is timed at that
    alone. `shapes` of one sample are for inputs whose lengths are free. VerificationError: an output on the test split
    holds NaN or infinity.
    """
    session = open_session(original)
    static = static_batch(session)
    batches = BATCHES if static is None else (static,)
    samples = random_inputs(session, max(batches), shapes=shapes) if inputs is None else inputs
    seconds_to_load = load_seconds(original, compressed)
    sides = [
        Side(taken, peak_bytes(path, shapes), time_by_node(path, samples, batches[0]))
        for path, taken in zip((original, compressed), seconds_to_load, strict=True)
    ]
    return Delivered(
        original=sides[0],
        compressed=sides[1],
        latency=[compare_latency(original, compressed, samples, batch, seconds) for batch in batches],
        quality=None if inputs is None else _quality(original, compressed, inputs, labels),
    )


def _quality(original: Path, compressed: Path, inputs: Mapping[str, Array], labels: Array | None) -> Quality:
    before, after = (_last_output(path, inputs) for path in (original, compressed))
    alike = fidelity(before, after)
    if labels is None:
        return Quality(None, None, None, alike)
    if np.issubdtype(labels.dtype, np.integer):
        paired = compare_classification(before, after, labels)
        return Quality(classification(before, labels), classification(after, labels), paired, alike)
    if labels.dtype == np.bool_:
        change = compare_multilabel(before, after, labels)
        return Quality(multilabel(before, labels), multilabel(after, labels), change, alike)
    error = compare_regression(before, after, labels)
    return Quality(regression(before, labels), regression(after, labels), error, alike)


def _last_output(path: Path, inputs: Mapping[str, Array]) -> Array:
    output = predict(path, inputs)[-1]
    if not np.isfinite(output.astype(np.float64)).all():
        raise VerificationError("an output on the test split holds NaN or infinite values", path.name)
    return output
