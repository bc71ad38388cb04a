"""Which rank each layer gets, the layers in that rank, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from compression.context import Context
from compression.errors import SpecError
from compression.factorization.forms import Form, factorised, kernel_shape, leaves, white
from compression.factorization.latency_target import within_time
from compression.factorization.moments import Moments, moments_of
from compression.factorization.options import (
    Option,
    candidates,
    cheapest_within,
    curve,
    nearest_rank,
    options_of,
)
from compression.factorization.replace import replaced_by_chains
from compression.factorization.start import output_error
from compression.knapsack import cheapest
from compression.measure.cost import NetworkCost, cost_of
from compression.network import Network

if TYPE_CHECKING:
    from compression.methods.factorize.lowrank import FactorizeLowrank

FORMS: Mapping[str, Sequence[Form]] = {
    "auto": ("channel", "spatial", "tucker2"),
    "channel": ("channel",),
    "spatial": ("spatial",),
    "tucker2": ("tucker2",),
}


def low_rank(network: Network, spec: FactorizeLowrank, context: Context) -> tuple[Network, dict[str, Any]]:
    """The network with the chosen layers taken apart, before any training, and the facts.

    SpecError: no selected layer can be taken apart, or the target is below what the lowest ranks come to."""
    layers, left = candidates(network)
    kinds = {name: type(module).__name__ for name, module in network.layers().items()}
    selected = spec.layers.select(kinds)
    names = [name for name in layers if name in selected]
    if not names:
        raise SpecError("none of the selected layers can be taken apart", "/layers")
    moments = (
        moments_of(network, names, spec.samples, context)
        if spec.samples
        else {name: white(layers[name]) for name in names}
    )
    cost = cost_of(network)
    macs = {entry.name: entry.macs for entry in cost.layers}
    options = {
        name: options_of(layers[name], macs[name], _forms(layers[name], spec.form), spec.multiple_of, moments[name])
        for name in names
    }
    made, picked, timing = _chosen(network, spec, options, moments, cost, context)
    facts = {
        "layers": {name: _told(entry, options[name][0], layers[name]) for name, entry in picked.items()},
        "curves": {name: curve(options[name]) for name in names},
        "left_alone": {name: reason for name, reason in left.items() if name in selected},
        "not_by_data": [name for name in names if spec.samples and moments[name].second is None],
        "output_error": output_error(made, network),
        **timing,
    }
    return made, facts


def _forms(leaf: nn.Module, wanted: str) -> Sequence[Form]:
    """A layer without a kernel in space has but one."""
    spacious = isinstance(leaf, nn.Conv2d) and max(leaf.kernel_size) > 1
    return FORMS[wanted] if spacious else ("channel",)


def _chosen(
    network: Network,
    spec: FactorizeLowrank,
    options: Mapping[str, Sequence[Option]],
    moments: Mapping[str, Moments],
    cost: NetworkCost,
    context: Context,
) -> tuple[Network, dict[str, Option], dict[str, Any]]:
    """The network with its options, and what was timed for it."""
    if spec.latency_ratio is not None:
        make = lambda picked: _made(network, picked, moments)  # noqa: E731
        made, picked, facts = within_time(network, options, spec.latency_ratio, make, context)
        return made, picked, {"latency": facts}
    numbers = _choice(spec, list(options.values()), cost.macs, cost.parameters)
    picked = {name: options[name][index] for name, index in zip(options, numbers, strict=True)}
    return _made(network, picked, moments), picked, {}


def _choice(spec: FactorizeLowrank, options: Sequence[Sequence[Option]], macs: int, parameters: int) -> list[int]:
    """The number of each layer's option."""
    if spec.rank is not None:
        return [nearest_rank(row, spec.rank) for row in options]
    if spec.energy is not None:
        return [cheapest_within(row, spec.energy) for row in options]
    field, ratio, total = (
        ("macs", spec.macs_ratio, macs)
        if spec.macs_ratio is not None
        else ("parameters", spec.parameters_ratio, parameters)
    )
    assert ratio is not None  # noqa: S101 - the validator of the spec holds this
    sizes = [[int(getattr(option, field)) for option in row] for row in options]
    elsewhere = total - sum(row[0] for row in sizes)
    found = cheapest(sizes, [[option.loss for option in row] for row in options], int(ratio * total) - elsewhere)
    if found is None:
        least = (elsewhere + sum(min(row) for row in sizes)) / total
        raise SpecError(
            f"the lowest ranks of the selected layers leave {least:.3f} of the {field}; ask for more, or select more "
            "layers",
            f"/{field}_ratio",
        )
    return found


def _made(network: Network, picked: Mapping[str, Option], moments: Mapping[str, Moments]) -> Network:
    chains = {}
    for name, option in picked.items():
        if option.form is not None:
            leaf = network.layers()[name]
            chains[name] = leaves(leaf, factorised(leaf, option.form, option.rank, option.inner, moments[name]))
    return replaced_by_chains(network, chains)


def _told(option: Option, before: Option, leaf: nn.Module) -> dict[str, Any]:
    known = {"weight": list(kernel_shape(leaf)), "form": option.form}
    if option.form is None:
        return known
    return {
        **known,
        "rank": option.rank,
        **({"inner": option.inner} if option.form == "tucker2" else {}),
        "macs": [before.macs, option.macs],
        "parameters": [before.parameters, option.parameters],
        "error": round(option.error, 6),
    }
