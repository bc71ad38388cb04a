"""Figures from ONNX Runtime on one CPU thread: load time, latency, time by operator, and outputs over a data set.

The two networks of a comparison are timed in the same process, turn by turn, so that whatever else the machine does
falls on both alike.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime import InferenceSession

Array = NDArray[np.generic]
Shapes = Mapping[str, Sequence[int]]
"""Of one sample, by input: what an input whose lengths are free in the file is given."""

PAIRS = 8  # sessions of each file: where its buffers happen to lie makes a session a few percent faster or slower
STUDENT_95 = 2.365  # the 97.5 % quantile of Student's t at PAIRS - 1 degrees of freedom
_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
}


@dataclass(frozen=True)
class Latency:
    """Seconds for one run of a batch: median and quartiles over `rounds`."""

    median: float
    low_quartile: float
    high_quartile: float
    rounds: int


@dataclass(frozen=True)
class Comparison:
    """`ratio` = time of the original / time of the compressed: above 1 the compressed file is faster. `low`, `high`:
    its 95 % interval over fresh pairs of sessions."""

    batch: int
    original: Latency
    compressed: Latency
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class NodeTime:
    """Mean microseconds of one node's kernel in a run, as ONNX Runtime's own profiler reports it after its fusions."""

    name: str
    operator: str
    microseconds: float


def open_session(model: Path | bytes, profile_prefix: Path | None = None) -> InferenceSession:
    """A session of one thread, run in order, on the CPU, of a file or of a file's bytes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    given = model if isinstance(model, bytes) else str(model)
    return InferenceSession(given, options, providers=["CPUExecutionProvider"])


def static_batch(session: InferenceSession) -> int | None:
    """The number of samples that every run of the file takes, where it is written in it."""
    lengths = [entry.shape[0] for entry in session.get_inputs() if entry.shape]
    return next((length for length in lengths if isinstance(length, int)), None)


def predict(model: Path | bytes, inputs: Mapping[str, Array], batch: int = 256) -> list[Array]:
    """Every output over all samples (N × …), computed `batch` samples at a time, or as many as the file's own."""
    return predict_in(open_session(model), inputs, batch)


def predict_in(session: InferenceSession, inputs: Mapping[str, Array], batch: int = 256) -> list[Array]:
    """The same in a session that is open."""
    static = static_batch(session)
    batch = static or batch
    count = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, count, batch):
        chunk = {name: value[start : start + batch] for name, value in inputs.items()}
        found = session.run(None, chunk if static is None else first_samples(chunk, batch))
        parts.append([value[: count - start] if static is not None else value for value in found])
    return [np.concatenate(chunks) for chunks in zip(*parts, strict=True)]


def random_inputs(
    session: InferenceSession, batch: int, seed: int = 0, shapes: Shapes | None = None
) -> dict[str, Array]:
    """Seeded inputs of the session's own names, shapes and types: normal values, or zeros and ones for integers.
    `shapes` come before the session's."""
    random = np.random.default_rng(seed)
    values: dict[str, Array] = {}
    for entry in session.get_inputs():
        shape = (batch, *(shapes or {}).get(entry.name, entry.shape[1:]))
        dtype = np.dtype(_TYPES[entry.type])
        values[entry.name] = (
            random.standard_normal(shape).astype(dtype)
            if dtype.kind == "f"
            else random.integers(0, 2, shape).astype(dtype)
        )
    return values


def first_samples(inputs: Mapping[str, Array], batch: int) -> dict[str, Array]:
    """The first `batch` samples, from the start again where there are fewer."""
    return {name: np.resize(value, (batch, *value.shape[1:])) for name, value in inputs.items()}


def load_seconds(original: Path, compressed: Path, rounds: int = 5) -> tuple[float, float]:
    """Median seconds from file to ready session of both files, opened in turn."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for path, taken in zip((original, compressed), seconds, strict=True):
            start = time.perf_counter()
            open_session(path)
            if turn:  # the first of each warms the disk cache
                taken.append(time.perf_counter() - start)
    return float(np.median(seconds[0])), float(np.median(seconds[1]))


def compare_latency(
    original: Path | bytes, compressed: Path | bytes, inputs: Mapping[str, Array], batch: int, seconds: float = 3.0
) -> Comparison:
    """Both files on the same `batch` samples in turn, for about `seconds` in all, by PAIRS pairs of fresh sessions."""
    feed = first_samples(inputs, batch)
    pairs = [_alternate(open_session(original), open_session(compressed), feed, seconds / PAIRS) for _ in range(PAIRS)]
    medians = np.array([np.median(taken, axis=0) for taken in pairs])
    ratio, low, high = ratio_interval(medians[:, 0] / medians[:, 1])
    taken = np.concatenate(pairs)
    return Comparison(batch, _latency(taken[:, 0]), _latency(taken[:, 1]), ratio, low, high)


def ratio_interval(ratios: NDArray[np.float64]) -> tuple[float, float, float]:
    """Geometric mean of the PAIRS ratios, and its 95 % interval by Student's t on their logarithms.

    Sessions, not rounds, are what is independent: the rounds of one session agree far better with each other than
    with those of the next.
    """
    logs = np.log(ratios)
    mean, margin = logs.mean(), STUDENT_95 * logs.std(ddof=1) / np.sqrt(len(logs))
    return float(np.exp(mean)), float(np.exp(mean - margin)), float(np.exp(mean + margin))


def time_by_node(path: Path | bytes, inputs: Mapping[str, Array], batch: int = 1, runs: int = 20) -> list[NodeTime]:
    """Mean time of every node over `runs` runs after as many to warm up; slowest first."""
    feed = first_samples(inputs, batch)
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(path, Path(folder) / "profile")
        for _ in range(2 * runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    return _node_times(events, runs)


def _node_times(events: list[dict[str, Any]], runs: int) -> list[NodeTime]:
    durations: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            durations.setdefault(key, []).append(float(event["dur"]))
    times = [NodeTime(name, operator, float(np.mean(taken[-runs:]))) for (name, operator), taken in durations.items()]
    return sorted(times, key=lambda entry: -entry.microseconds)


def _alternate(
    original: InferenceSession, compressed: InferenceSession, feed: dict[str, Array], seconds: float
) -> NDArray[np.float64]:
    """Seconds a run, rounds × 2. The first of a round changes from round to round; a round has several runs where
    one is too short for the clock."""
    sessions = (original, compressed)
    for session in sessions:
        _time(session, feed, 3)
    once = [_time(session, feed, 3) for session in sessions]
    repeats = [max(1, round(200e-6 / seconds_each)) for seconds_each in once]
    rounds = int(np.clip(seconds / sum(o * r for o, r in zip(once, repeats, strict=True)), 10, 1000))
    taken = np.empty((rounds, 2))
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            taken[turn, which] = _time(sessions[which], feed, repeats[which])
    return taken


def _time(session: InferenceSession, feed: dict[str, Array], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        session.run(None, feed)
    return (time.perf_counter() - start) / repeats


def _latency(taken: NDArray[np.float64]) -> Latency:
    low, median, high = np.quantile(taken, [0.25, 0.5, 0.75])
    return Latency(float(median), float(low), float(high), len(taken))
