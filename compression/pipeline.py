"""A job, from files to files: apply, verify, measure, record, checkpoint; then export, measure, report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from compression import device as devices
from compression.checkpoint import Checkpoints, file_sha256, fingerprint
from compression.container.network import encode
from compression.context import Context
from compression.data import Dataset, Split, load_dataset
from compression.data.trial import tried
from compression.errors import MethodError, Refusal, SpecError
from compression.events import Reporter
from compression.indices import check_indices
from compression.intake.model import read_model
from compression.integer import IntegerOnnx, Model, known_cost
from compression.measure.runtime import predict
from compression.model_ids import referenced_models
from compression.network import Network, Signature
from compression.opaque import OpaqueOnnx, signature_of, tried_opaque, verdict_on, with_lengths
from compression.publish import Outcome, export_original, publish
from compression.registry import StepSpec, methods
from compression.spec import JobSpec, require_data
from compression.training.evaluate import metrics_of, outputs_of
from compression.verify import check_runs, check_runs_in_integers


@dataclass(frozen=True)
class ModelFile:
    """A model's file; `architecture` as `read_model` takes it."""

    path: Path
    architecture: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Job:
    """What a run is given: the spec and files of this machine. `latency_seconds`: how long each latency is timed.

    `models`: files of the other models that the spec names, by id; an id that isn't there is the path of a file.
    """

    spec: JobSpec
    model: Path
    data: Path | None
    out: Path
    architecture: Mapping[str, Any] | None = None
    device: str = "auto"
    threads: int = 1
    latency_seconds: float = 3.0
    models: Mapping[str, ModelFile] = field(default_factory=dict)


@dataclass(frozen=True)
class Given:
    """What the files hold, read and checked. `inputs`: all that decides the outcome, for fingerprint and report.
    `models`: those that the steps name, by id."""

    original: Network | OpaqueOnnx
    signature: Signature
    data: Dataset | None
    device: torch.device
    inputs: dict[str, Any]
    models: Mapping[str, Network | OpaqueOnnx] = field(default_factory=dict)


def run(job: Job, reporter: Reporter) -> Outcome:
    """Runs the job; its files are then in `job.out / "artifacts"`. Raises Refusal or VerificationError."""
    given = load(job, reporter)
    # The original is exported for comparison, and first: what can't be exported is refused before anything is spent.
    originals = export_original(given.original, job.spec.exports, job.out)
    outcome = compress(job, given, reporter)
    publish(job.spec, outcome, originals, job.out, reporter, job.latency_seconds)
    return outcome


def load(job: Job, reporter: Reporter) -> Given:
    """Reads and checks the job's files, and makes numerics repeatable."""
    if job.data is None:
        require_data(job.spec)
    device = devices.choose(job.device)
    devices.make_deterministic(job.threads)
    reporter.emit("loading", device=str(device), threads=job.threads)
    original = read_model(job.model, job.architecture)
    if isinstance(original, OpaqueOnnx):
        _check_takes_opaque(job.spec, original)
        signature = signature_of(original, job.architecture)
        original = with_lengths(original, signature)
    else:
        signature = original.signature
    files = _other_models(job)
    data = load_dataset(job.data, signature, job.spec.data) if job.data is not None else None
    if data is not None and isinstance(original, OpaqueOnnx):
        data = tried_opaque(data, original)
    elif data is not None and isinstance(original, Network):
        check_indices(original, data)
        data = tried(data, original)
    inputs = {
        "model": file_sha256(job.model),
        "data": file_sha256(job.data) if job.data is not None else None,
        "architecture": job.architecture,
        "read": job.spec.data.model_dump(mode="json"),
        "seed": job.spec.seed,
        "device": str(device),
        "threads": job.threads,
        "versions": {name: version(name) for name in ("niwaki", "torch", "numpy", "pillow")},
    }
    if files:
        inputs["models"] = {
            id_: {"sha256": file_sha256(f.path), "architecture": f.architecture} for id_, f in files.items()
        }
    return Given(original, signature, data, device, inputs, _read_models(job, files))


def _other_models(job: Job) -> dict[str, ModelFile]:
    """The files of all models that the steps name, each once."""
    files = {}
    for pointer, id_ in referenced_models(job.spec).items():
        files[id_] = job.models.get(id_, ModelFile(Path(id_)))
        if not files[id_].path.is_file():
            raise SpecError(f"there is no such model: {files[id_].path}", pointer)
    return files


def _read_models(job: Job, files: Mapping[str, ModelFile]) -> dict[str, Network | OpaqueOnnx]:
    found: dict[str, Network | OpaqueOnnx] = {}
    for pointer, id_ in referenced_models(job.spec).items():
        try:
            found[id_] = found.get(id_) or read_model(files[id_].path, files[id_].architecture)
        except Refusal as error:
            raise SpecError(f"the model can't be read: {error}", pointer) from error
    return found


def _check_takes_opaque(spec: JobSpec, model: OpaqueOnnx) -> None:
    """MethodError: the first step that takes no opaque model, or not this one. SpecError: an export that needs more."""
    for step in spec.steps:
        verdict = verdict_on(model, methods()[step.method])
        if not verdict.applicable:
            raise MethodError(f"{step.method} can't run on this model: {verdict.reason}", verdict.where)
    for index, export in enumerate(spec.exports):
        if export != "onnx":
            raise SpecError(f"this model can't be written as {export}: {model.stopped_by.why}", f"/exports/{index}")


def compress(job: Job, given: Given, reporter: Reporter) -> Outcome:
    """The steps. What is done already (`job.out / "checkpoints"`) isn't done again."""
    network: Model = given.original
    records = []
    configs = [entry.model_dump(mode="json") for entry in job.spec.steps]
    for index, step in enumerate(job.spec.steps):
        reporter.index = index
        key = f"{index}-{fingerprint(given.inputs, configs[: index + 1])}"
        context = Context(
            data=given.data,
            original=cast("Network", given.original),  # see Context: no method looks at it where it isn't one
            device=given.device,
            seed=job.spec.seed + 1000 * index,
            reporter=reporter,
            checkpoints=Checkpoints(job.out / "checkpoints", key, reporter),
            models=given.models,
            counts_bytes="nwk" in job.spec.exports
            or any(methods()[s.method].leaves == "coded" for s in job.spec.steps),
        )
        reporter.emit("step_started", index=index, method=step.method)
        network, record = _step(network, step, context)
        records.append({"index": index, **record})
        reporter.emit("step_finished", index=index, record=records[-1])
    reporter.index = None
    if isinstance(network, OpaqueOnnx):
        raise TypeError("a job has a step")
    return Outcome(given.original, network, given.signature, records, given.data, given.inputs)


def _step(network: Model, step: StepSpec, context: Context) -> tuple[Network | IntegerOnnx, dict[str, Any]]:
    method = methods()[step.method]

    def work() -> tuple[Network | IntegerOnnx, dict[str, Any]]:
        verdict = method.check(network)
        if not verdict.applicable:
            raise MethodError(f"{step.method} can't run on this network: {verdict.reason}", verdict.where)
        if isinstance(network, Network) and len(network.variants) > 1 and not method.keeps_variants:
            raise MethodError(f"{step.method} can't keep the network's variants", ", ".join(network.variants))
        before = figures(network, context.data, context)
        start = time.monotonic()
        try:
            result = method.apply(network, step, context)
        except SpecError as error:
            raise SpecError(error.message, f"/steps/{context.reporter.index}{error.where}") from error
        seconds = time.monotonic() - start
        if isinstance(result.network, IntegerOnnx):
            check_runs_in_integers(result.network, network)
        else:
            check_runs(result.network, cast("Network", network))
        return result.network, {
            "method": step.method,
            "config": step.model_dump(mode="json"),
            "seconds": round(seconds, 3),
            "before": before,
            "after": figures(result.network, context.data, context),
            "facts": result.facts,
        }

    done = context.checkpoints.stage("done", work)
    context.checkpoints.drop_all_but("done")
    return done


def figures(network: Model, data: Dataset | None, context: Context) -> dict[str, float]:
    """What the network costs, and how it does on the validation split (never on the test split).
    `coded_bytes`: of its `.nwk` file in the fast static coder."""
    cost = known_cost(network)
    found: dict[str, float] = {"parameters": cost.parameters, "nonzero": cost.nonzero}
    if cost.macs is not None:
        found["macs"] = cost.macs
    if context.counts_bytes and isinstance(network, Network):
        found["coded_bytes"] = len(encode(network, "range").file)
    if data is None:
        return found
    outputs = last_output(network, data.validation, context.device)
    reference = last_output(context.original, data.validation, context.device) if data.task is None else None
    metrics = metrics_of(outputs, data.validation.labels, data.task, reference)
    return found | {f"validation_{name}": value for name, value in metrics.items() if name != "score"}


def last_output(network: Model, split: Split, device: torch.device) -> Tensor:
    """Over the whole split, on the CPU: a network's in PyTorch, a file's in ONNX Runtime."""
    if isinstance(network, Network):
        module = network.module.to(device)
        outputs = outputs_of(module, split, device)[-1].cpu()
        module.to("cpu")
        return outputs
    given = network.file if isinstance(network, IntegerOnnx) else network.path
    found = predict(given, {name: value.numpy() for name, value in split.inputs.items()})[-1]
    return torch.from_numpy(found.astype(np.float32))
