"""`prune.structured` on transformers, from spec to files: targets are reached, what isn't asked for stays."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compression.errors import MethodError, SpecError
from compression.events import Reporter
from compression.export.writers import export_network
from compression.intake.weights import save_network
from compression.network import Network
from compression.pipeline import Job, compress, load
from compression.publish import Outcome
from compression.spec import parse_job
from compression.zoo.catalog import zoo_network
from tests.engine import attention_nets
from tests.engine.attention_nets import CLASSES, lifted


def run(network: Network, steps: list[dict[str, Any]], folder: Path, samples: int = 60) -> Outcome:
    save_network(network, folder / "m.safetensors")
    torch.manual_seed(3)
    example = network.example(samples, seed=3)
    arrays = {spec.name: value.numpy() for spec, value in zip(network.signature.inputs, example, strict=True)}
    np.savez(folder / "d.npz", y=np.arange(samples) % CLASSES, **arrays)
    spec = parse_job({"steps": steps})
    job = Job(spec=spec, model=folder / "m.safetensors", data=folder / "d.npz", out=folder)
    reporter = Reporter(io.StringIO())
    return compress(job, load(job, reporter), reporter)


def vit(**arguments: int) -> Network:
    small = {"in_channels": 1, "height": 12, "width": 12, "embedding": 48, "depth": 2, "heads": 4, "hidden": 96}
    return zoo_network("vit-tiny", {**small, "classes": CLASSES, **arguments}, seed=0)


def macs(network: Network) -> int:
    """By torch's own counter, which only sees attention when it is computed by plain products."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        network.module(*network.example(1))
    return counter.get_total_flops() // 2


STEP = {"method": "prune.structured", "rounds": 2, "finetune": {"epochs": 1, "batch_size": 20}}


@pytest.mark.parametrize("criterion", ["taylor", "magnitude"])
def test_a_vision_transformer_halves_its_macs_and_keeps_its_width(criterion: str, tmp_path: Path) -> None:
    network = vit()
    outcome = run(network, [{**STEP, "macs_ratio": 0.5, "importance": criterion}], tmp_path)
    assert 0.4 * macs(network) < macs(outcome.network) <= macs(network) / 1.9
    widths = outcome.steps[0]["facts"]["widths"]
    kept = {name for name, (before, after) in widths.items() if before == after}
    assert kept == {
        "patch_embed.proj",
        "head",
        *(f"blocks.{i}.{part}" for i in (0, 1) for part in ("attn.proj", "mlp.fc2")),
    }
    removed = [entry["parts"] for entry in outcome.steps[0]["facts"]["rounds"]]
    assert {part for parts in removed for part in parts} <= {"heads", "head_dim", "neurons"}


def test_width_goes_where_it_is_asked_for(tmp_path: Path) -> None:
    network = vit()
    outcome = run(network, [{**STEP, "macs_ratio": 0.5, "prune": ["width"]}], tmp_path)
    assert macs(outcome.network) <= macs(network) / 1.9
    parameters = dict(outcome.network.module.named_parameters())
    widths = {parameters[name].shape[-1] for name in ("cls_token", "pos_embed", "norm.weight", "head.weight")}
    assert len(widths) == 1
    assert widths.pop() < 48
    assert parameters["blocks.0.mlp.fc1.weight"].shape[0] == 96


@pytest.mark.parametrize("name", ["mixed", "module", "pre-norm", "padded", "causal"])
def test_pruned_trained_again_and_exported(name: str, tmp_path: Path) -> None:
    """With convolutions, with token ids and masks: the target is met, and the files compute what the network does."""
    network = lifted(name)
    every = ["channels", "neurons", "heads", "head_dim", "width"]
    steps = [
        {**STEP, "macs_ratio": 0.5, "prune": every},
        {"method": "finetune", "training": {"epochs": 1, "batch_size": 20}},
    ]
    outcome = run(network, steps, tmp_path)
    assert macs(outcome.network) <= macs(network) / 1.9
    export_network(outcome.network, ["onnx", "pt2", "safetensors"], tmp_path)  # each reloaded and compared
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    torch.manual_seed(9)
    for batch in (1, 7):
        inputs = attention_nets.NETS[name][1](batch)
        named = {spec.name: value.numpy() for spec, value in zip(network.signature.inputs, inputs, strict=True)}
        with torch.no_grad():
            wanted = outcome.network.module(*inputs)
        torch.testing.assert_close(torch.from_numpy(session.run(None, named)[0]), wanted, rtol=1e-4, atol=1e-5)


def test_without_labels_the_original_is_the_reference(tmp_path: Path) -> None:
    network = vit(depth=1)
    save_network(network, tmp_path / "m.safetensors")
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(60, 1, 12, 12)).astype(np.float32))
    spec = parse_job({"steps": [{**STEP, "parameters_ratio": 0.6}]})
    job = Job(spec=spec, model=tmp_path / "m.safetensors", data=tmp_path / "d.npz", out=tmp_path)
    reporter = Reporter(io.StringIO())
    outcome = compress(job, load(job, reporter), reporter)
    before, after = (sum(value.numel() for value in entry.module.parameters()) for entry in (network, outcome.network))
    assert 0.5 * before < after <= 0.6 * before


def test_parts_that_the_selected_layers_lack_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="have head_dim, heads that may go") as caught:
        run(vit(), [{**STEP, "macs_ratio": 0.9, "prune": ["channels"], "layers": {"include": ["*.qkv"]}}], tmp_path)
    assert caught.value.where == "/steps/0/prune"


def test_heads_alone_may_not_reach_the_target(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="or select more layers or parts"):
        run(vit(), [{**STEP, "macs_ratio": 0.5, "prune": ["heads"]}], tmp_path)


def test_norms_are_no_batch_norms(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="batch norm") as caught:
        run(vit(), [{**STEP, "macs_ratio": 0.7, "importance": "batch_norm"}], tmp_path)
    assert caught.value.where == "blocks.0.attn.qkv"
