"""`factorize.lowrank`: what it looks at, what it chooses, and what comes of it."""

from __future__ import annotations

import io
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compression.encodings import Mask
from compression.errors import SpecError
from compression.events import Reporter
from compression.factorization.moments import moments_of, patches_of
from compression.factorization.options import candidates, options_of
from compression.intake.weights import save_network
from compression.measure.cost import cost_of
from compression.methods.factorize.lowrank import FactorizeLowrank, apply, check
from compression.network import Network
from compression.pipeline import Job, compress, load
from compression.publish import Outcome
from compression.spec import parse_job
from tests.engine.nets import Chain, network_of
from tests.engine.training.test_loop import context_for


def chain() -> Network:
    return network_of(Chain(), 1, 8, 8)


def run(steps: list[dict[str, Any]], folder: Path) -> Outcome:
    save_network(chain(), folder / "m.safetensors")
    random = np.random.default_rng(0)
    y = np.arange(120) % 5
    x = random.normal(size=(5, 1, 8, 8))[y] + random.normal(size=(120, 1, 8, 8))
    np.savez(folder / "d.npz", x=x.astype(np.float32), y=y)
    spec = parse_job({"steps": steps})
    job = Job(spec=spec, model=folder / "m.safetensors", data=folder / "d.npz", out=folder)
    reporter = Reporter(io.StringIO())
    return compress(job, load(job, reporter), reporter)


@pytest.mark.parametrize("name", ["conv2", "hidden"])
def test_moments_are_those_of_all_patches_at_once(name: str, tmp_path: Path) -> None:
    network = chain()
    context = context_for(tmp_path, network)
    found = moments_of(network, [name], 10_000, context)[name]
    seen: list[Tensor] = []
    module = network.copy().module
    module.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assert context.data is not None
    with torch.no_grad():
        module(*context.data.train.inputs.values())
    leaf: Any = module.get_submodule(name)
    rows = patches_of(leaf, seen[0]).double()
    torch.testing.assert_close(found.mean, rows.mean(0))
    torch.testing.assert_close(found.second, rows.T.cov(correction=0))
    outputs = leaf(seen[0]).detach().double()
    flat = outputs.transpose(0, 1).flatten(1) if outputs.dim() == 4 else outputs.T
    torch.testing.assert_close(found.outputs, flat.cov(correction=0), rtol=1e-5, atol=1e-6)


def test_harm_is_half_the_fisher_information_of_the_outputs(tmp_path: Path) -> None:
    """Of the last layer it is known: the Fisher information of softmax is p (1 − p) on the diagonal."""
    network = chain()
    context = context_for(tmp_path, network)
    found = moments_of(network, ["head"], 10_000, context)["head"]
    assert context.data is not None
    with torch.no_grad():
        shares = torch.softmax(network.module(*context.data.train.inputs.values()), 1)
    wanted = float((shares * (1 - shares)).mean()) / 2
    assert found.harm == pytest.approx(wanted, rel=0.1)  # drawn once for each of 330 samples


def test_the_error_told_of_an_option_is_the_error_of_the_layer_on_the_data(tmp_path: Path) -> None:
    network = chain()
    context = context_for(tmp_path, network)
    spec = FactorizeLowrank(rank=4, finetune=None, samples=10_000, form="tucker2", layers={"include": ["conv2"]})
    result = apply(network, spec, context)
    told = result.facts["layers"]["conv2"]
    assert told["form"] == "tucker2"
    modules = {"before": network.copy().module, "after": result.network.copy().module}
    outputs: dict[str, Tensor] = {}
    targets = {"before": "conv2", "after": "conv2.2"}
    for side, module in modules.items():
        module.get_submodule(targets[side]).register_forward_hook(
            lambda _m, _i, value, side=side: outputs.__setitem__(side, value)
        )
    assert context.data is not None
    with torch.no_grad():
        for module in modules.values():
            module(*context.data.train.inputs.values())
    before, after = (outputs[side].transpose(0, 1).flatten(1).double() for side in ("before", "after"))
    deviation = (before - before.mean(1, keepdim=True)).square().sum(0).mean()
    assert told["error"] == pytest.approx(float(((before - after).square().sum(0).mean() / deviation).sqrt()), rel=1e-3)


@pytest.mark.parametrize("field", ["macs", "parameters"])
def test_a_ratio_is_kept_and_no_other_choice_is_estimated_to_lose_less(field: str, tmp_path: Path) -> None:
    network = chain()
    context = context_for(tmp_path, network)
    spec = FactorizeLowrank.model_validate({f"{field}_ratio": 0.6, "finetune": None, "multiple_of": 1})
    result = apply(network, spec, context)
    before, after = cost_of(network), cost_of(result.network)
    assert getattr(after, field) <= 0.6 * getattr(before, field)
    # By brute force over all options of the three layers that have some.
    layers, _ = candidates(network)
    moments = moments_of(network, list(layers), spec.samples, context)
    macs = {entry.name: entry.macs for entry in before.layers}
    forms = {name: ["channel", "spatial", "tucker2"] if isinstance(leaf, nn.Conv2d) else ["channel"]
             for name, leaf in layers.items()}  # fmt: skip
    options = [options_of(leaf, macs[name], forms[name], 1, moments[name]) for name, leaf in layers.items()]  # type: ignore[arg-type]
    budget = 0.6 * getattr(before, field) - (getattr(before, field) - sum(getattr(row[0], field) for row in options))
    sizes = [np.array([getattr(option, field) for option in row]) for row in options]
    losses = [np.array([option.loss for option in row]) for row in options]
    head = int(np.argmin([len(row) for row in options]))
    others = [index for index in range(len(options)) if index != head]
    best = np.inf
    for pick in product(*(range(len(options[index])) for index in others[:-1]), range(len(options[head]))):
        picked = dict(zip([*others[:-1], head], pick, strict=True))
        size = sum(int(sizes[index][place]) for index, place in picked.items())
        loss = sum(float(losses[index][place]) for index, place in picked.items())
        rest = others[-1]
        fits = sizes[rest] <= budget - size
        if fits.any():
            best = min(best, loss + float(losses[rest][fits].min()))
    told = result.facts["layers"]
    chosen = 0.0
    for row, name in zip(options, layers, strict=True):
        mine = [o.loss for o in row if o.form == told[name]["form"] and o.rank == told[name].get("rank", 0)
                and o.inner == told[name].get("inner", 0)]  # fmt: skip
        chosen += mine[0]
    assert chosen == pytest.approx(best, rel=1e-9)


def test_energy_is_kept_in_each_layer(tmp_path: Path) -> None:
    network = chain()
    spec = FactorizeLowrank(energy=0.9, finetune=None, multiple_of=1)
    told = apply(network, spec, context_for(tmp_path, network)).facts["layers"]
    taken = [entry for entry in told.values() if entry["form"]]
    assert taken
    assert all(entry["error"] ** 2 <= 0.1 + 1e-9 for entry in taken)


def test_counts_are_those_of_the_network(tmp_path: Path) -> None:
    network = chain()
    result = apply(network, FactorizeLowrank(rank=2, finetune=None, multiple_of=1), context_for(tmp_path, network))
    counted = {entry.name: entry for entry in cost_of(result.network).layers}
    for name, told in result.facts["layers"].items():
        parts = [entry for key, entry in counted.items() if key.rpartition(".")[0] == name]
        if told["form"]:
            assert sum(entry.macs for entry in parts) == told["macs"][1]
            assert sum(entry.parameters for entry in parts) == told["parameters"][1]


def test_it_trains_and_resumes_and_follows_pruning(tmp_path: Path) -> None:
    steps = [
        {"method": "prune.structured", "macs_ratio": 0.7, "rounds": 1, "finetune": None},
        {"method": "factorize.lowrank", "macs_ratio": 0.8, "multiple_of": 1, "finetune": {"epochs": 1}},
        {"method": "quantize.codebook", "finetune": None},
    ]
    first = run(steps, tmp_path)
    again = run(steps, tmp_path)
    for one, other in zip(first.network.module.parameters(), again.network.module.parameters(), strict=True):
        assert torch.equal(one, other)
    assert first.steps[1]["facts"]["training"]["loss"]


def test_what_stays_whole_is_named(tmp_path: Path) -> None:
    network = chain()
    weight = network.module.get_parameter("conv2.weight")
    masked = network.replaced(encodings={"conv2.weight": Mask(torch.ones_like(weight, dtype=torch.bool))})
    verdict = check(masked)
    assert verdict.applicable
    assert verdict.details == ("conv2: its parameters are restricted by an encoding",)
    told = apply(masked, FactorizeLowrank(rank=2, finetune=None), context_for(tmp_path, network)).facts
    assert "conv2" not in told["layers"]
    assert list(told["left_alone"]) == ["conv2"]


def test_a_target_out_of_reach_names_the_least(tmp_path: Path) -> None:
    network = chain()
    spec = FactorizeLowrank(macs_ratio=0.01, finetune=None)
    with pytest.raises(SpecError, match=r"leave 0\.\d+ of the macs") as caught:
        apply(network, spec, context_for(tmp_path, network))
    assert caught.value.where == "/macs_ratio"


@pytest.mark.parametrize("given", [{}, {"rank": 2, "energy": 0.5}])
def test_one_target_has_to_be_given(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give one of"):
        FactorizeLowrank.model_validate(given)


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.relu, self.head = nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 2000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.hidden(torch.flatten(x, 1))))


def test_a_share_of_the_time_is_sought_by_the_measured_table_and_timed(tmp_path: Path) -> None:
    network = network_of(Wide(), 1, 8, 8)
    context = context_for(tmp_path, network, labelled=False)
    spec = FactorizeLowrank(latency_ratio=0.7, finetune=None, multiple_of=64, samples=64)
    result = apply(network, spec, context)
    told = result.facts["latency"]
    table = told["device_profile"]["table"]
    assert result.facts["layers"]["head"]["form"] == "channel"
    assert table.keys() == {"hidden", "head"}
    assert [len(row) for row in table.values()] == [len(result.facts["curves"][name]) + 1 for name in table]
    assert told["attempts"][0]["predicted"] <= 0.7
    assert all(attempt["measured"] > 0 for attempt in told["attempts"])
    # The table is kept: whoever goes on decides by the same figures.
    again = apply(network, spec, context)
    assert again.facts["latency"]["device_profile"] == told["device_profile"]


def test_a_share_of_the_time_out_of_reach_is_refused(tmp_path: Path) -> None:
    network = network_of(Wide(), 1, 8, 8)
    spec = FactorizeLowrank(latency_ratio=0.001, finetune=None, multiple_of=512, samples=64)
    with pytest.raises(SpecError, match="of the time") as caught:
        apply(network, spec, context_for(tmp_path, network, labelled=False))
    assert caught.value.where == "/latency_ratio"
