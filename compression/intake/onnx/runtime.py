"""ONNX Runtime on one thread, without its own rewriting of the graph: what a file says, and nothing computed early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Timer
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as _state

ORT_ERRORS: tuple[type[BaseException], ...] = tuple(
    {entry for entry in vars(_state).values() if isinstance(entry, type) and issubclass(entry, Exception)}
    | {RuntimeError, ValueError, TypeError, MemoryError}
)
"""What making or running a session raises."""


def open_reference(model: Path | bytes) -> Any:
    """A session whose start computes nothing: constants are not folded, so that no value is made before a run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    given = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def run_bounded(session: Any, feed: Mapping[str, NDArray[Any]], seconds: float) -> Sequence[Any]:
    """The outputs in the file's order; a run that takes longer than `seconds` ends between two nodes with one of
    ORT_ERRORS."""
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    alarm = Timer(seconds, lambda: setattr(options, "terminate", True))
    alarm.daemon = True
    alarm.start()
    try:
        found: Sequence[Any] = session.run(None, dict(feed), options)
        return found
    finally:
        alarm.cancel()
