"""A job's report as the engine writes it (a test holds it to the engine's own model), and jobs that have one."""

from __future__ import annotations

from typing import Any

from store import outcomes
from store.leases import Lease
from store.outcomes import StepChange
from tests.api.running import Running

Json = dict[str, Any]


def share(count: int, n: int = 500) -> Json:
    return {"value": count / n, "low": count / n - 0.02, "high": min(1.0, count / n + 0.01), "count": count, "n": n}


def layer(name: str, type_: str, shape: list[int], macs: int) -> Json:
    parameters = shape[0] * shape[1]
    return {
        "name": name,
        "type": type_,
        "output_shape": [1, shape[0]],
        "weight_shape": shape,
        "parameters": parameters,
        "nonzero": parameters,
        "macs": macs,
    }


def network(width: int) -> Json:
    layers = [
        layer("features.0", "Conv2d", [width, 25], 14400 * width),
        layer("head", "Linear", [10, width], 10 * width),
    ]
    parameters, macs = (sum(entry[key] for entry in layers) for key in ("parameters", "macs"))
    return {"parameters": parameters, "nonzero": parameters, "macs": macs, "bytes": 4 * parameters, "layers": layers}


def files(size: int) -> list[Json]:
    common = {"variant": "full", "sha256": "a" * 64, "max_relative_error": 1e-7}
    return [
        {"name": f"model.{form}", "format": form, "bytes": size + extra, **common}
        for form, extra in (("onnx", 0), ("pt2", 15_000))
    ]


def latency(batch: int, before: float, after: float) -> Json:
    def side(seconds: float) -> Json:
        return {"median": seconds, "low_quartile": 0.98 * seconds, "high_quartile": 1.03 * seconds, "rounds": 100}

    ratio = before / after
    return {
        "batch": batch,
        "original": side(before),
        "compressed": side(after),
        "ratio": ratio,
        "low": 0.97 * ratio,
        "high": 1.03 * ratio,
    }


def claim(subject: str, verdict: str, effect: str, text: str) -> Json:
    return {"subject": subject, "verdict": verdict, "effect": effect, "text": text}


def classification(before: int = 485, after: int = 470) -> Json:
    sides = [{"top1": share(count), "top5": share(499), "chance": 0.1} for count in (before, after)]
    lost = before - after + 3
    paired = {"lost": lost, "won": 3, "n": 500, "difference": (after - before) / 500, "low": -0.05, "high": -0.01}
    fidelity = {"agreement": share(480), "cosine": 0.995, "sqnr_db": 19.3}
    return {"original": sides[0], "compressed": sides[1], "paired": {**paired, "p_value": 0.01}, "fidelity": fidelity}


def report(*, width: int = 6, size: int = 383_421, after: int = 470, seconds: float = 1.5e-5, **changes: Any) -> Json:
    """Of a network that got smaller, faster and worse."""

    def sides(value: float, peak: int, nodes: list[tuple[str, float]]) -> Json:
        named = [{"name": name, "operator": "Conv", "microseconds": time} for name, time in nodes]
        return {"load_seconds": value, "peak_bytes": peak, "nodes": named}

    old, new = network(20), network(width)
    step = {
        "index": 0,
        "method": "prune.structured",
        "config": {"macs_ratio": 0.2},
        "seconds": 5.6,
        "before": {"macs": old["macs"], "validation_accuracy": 0.982},
        "after": {"macs": new["macs"], "validation_accuracy": 0.974},
        "facts": {
            "widths": {"features.0": [20, width], "head": [10, 10]},
            "left_alone": {"head": "it is an output of the network"},
            "rounds": [{"round": 1, "removed": 14, "training": {"best_epoch": 1.0, "history": [{"epoch": 0.0}]}}],
        },
    }
    made = {
        "format": 1,
        "headline": "Accuracy lost: -3.00 points; 4.00× faster at batch 1; 4.50× smaller.",
        "claims": [
            claim("accuracy", "accuracy lost", "worse", "accuracy lost: -3.00 points (95 % -5.00 to -1.00)"),
            claim("memory", "no gain", "none", "no gain in memory (21.9 → 21.8 MB)"),
            claim("latency", "faster", "better", "4.00× faster at batch 1"),
            claim("size", "smaller", "better", "4.50× smaller (1,727,015 → 383,421 bytes as .onnx)"),
        ],
        "spec": {"seed": 0, "steps": []},
        "inputs": {"model": "ab12", "seed": 0, "threads": 1},
        "data": {"task": "classification", "splits": {"train": 4000, "test": 500}, "warnings": []},
        "versions": {"torch": "2.13.0", "onnxruntime": "1.32.0"},
        "device": {"cpu": "AMD EPYC", "cores": 2, "measured_threads": 1},
        "original": old,
        "compressed": new,
        "original_files": files(1_727_015),
        "artifacts": files(size),
        "delivered": {
            "original": sides(0.0013, 21_860_352, [("conv", 28.0), ("head", 3.0)]),
            "compressed": sides(0.0009, 21_800_000, [("conv", 4.8), ("reorder", 2.0)]),
            "latency": [latency(1, 6e-5, seconds), latency(64, 2.4e-3, 4.8e-4)],
            "quality": classification(after=after),
        },
        "measured_on": "model.onnx, and the original exported alike",
        "steps": [step],
        "layers": [
            {"name": one["name"], "before": one, "after": two}
            for one, two in zip(old["layers"], new["layers"], strict=True)
        ],
        "usage": {"onnx": 'import onnxruntime\n\nsession = onnxruntime.InferenceSession("model.onnx")'},
    }
    return made | changes


FILES = {"model.onnx": b"onnx", "model.pt2": b"pt2", "report.md": b"# Report\n"}


def succeeded(api: Running, given: Json | None = None, **more: Any) -> str:
    """The id of a job that has this report."""
    id_: str = api.submit(**more)["id"]
    api.succeed(id_, FILES, given or report())
    return id_


def metric(step: int, stage: str, epoch: float, accuracy: float, loss: float) -> tuple[str, Json]:
    common = {"index": step, "stage": stage, "epoch": epoch, "split": "validation"}
    return "metric", {**common, "accuracy": accuracy, "loss": loss}


def at_work(api: Running, id_: str, fraction: float = 0.4) -> Lease:
    """Claimed, in the middle of its first step, with two measurements of two rounds."""
    lease = api.claim(id_)
    progress = {"index": 0, "fraction": fraction, "message": "round-2, epoch 1.0 of 2", "metrics": {}}
    events = [
        ("started", {}),
        ("loading", {"device": "cpu"}),
        ("step_started", {"index": 0, "method": "prune.structured"}),
        metric(0, "round-1", 0.0, 0.96, 0.2),
        metric(0, "round-1", 1.0, 0.98, 0.1),
        metric(0, "round-2", 0.0, 0.9, 0.4),
        metric(0, "round-2", 1.0, 0.97, 0.12),
        ("progress", progress),
    ]
    outcomes.record(api.database, lease, events, [StepChange(0, "running")], progress=progress)
    return lease
