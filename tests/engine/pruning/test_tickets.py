"""What a ticket and its controls start from, looked at weight by weight."""

from __future__ import annotations

import pytest
import torch

from compression.errors import MethodError
from compression.measure.cost import cost_of
from compression.network import Network
from compression.pruning.tickets import drawn_anew, left_of, signs_alone, smaller, with_weights_of
from compression.pruning.weights import masks_of, weight_names
from tests.engine.nets import Chain, Residual, network_of

WEIGHTS = ["conv1.weight", "conv2.weight", "hidden.weight", "head.weight"]


def chain(seed: int) -> Network:
    return network_of(Chain(), 1, 8, 8, seed=seed)


def value(network: Network, name: str) -> torch.Tensor:
    return network.module.get_parameter(name).detach()


def ticket(left: float = 0.3) -> Network:
    return smaller(chain(0), chain(1), "weights", "global", left, 0)


def test_a_ticket_has_the_places_of_the_trained_and_the_values_of_the_first_weights() -> None:
    first, trained, found = chain(0), chain(1), ticket()
    everything = torch.cat([value(trained, name).abs().flatten() for name in WEIGHTS])
    limit = everything.sort(descending=True).values[round(0.3 * len(everything)) - 1]
    for name in WEIGHTS:
        keep = value(trained, name).abs() >= limit
        assert torch.equal(value(found, name), value(first, name) * keep)
    assert left_of(found, "weights", 0) == pytest.approx(0.3, abs=1e-3)
    again = smaller(found, trained.replaced(encodings=found.encodings), "weights", "layer", 0.1, 0)
    for name in WEIGHTS:
        assert not bool((masks_of(again, [name])[name].keep & ~masks_of(found, [name])[name].keep).any())


def test_signs_keep_one_magnitude_a_layer() -> None:
    first, found = chain(0), ticket()
    by_sign, by_lot = signs_alone(found, first), signs_alone(found, first, seed=3)
    for name in WEIGHTS:
        keep, constant = masks_of(found, [name])[name].keep, float(value(first, name).std(correction=0))
        for one in (by_sign, by_lot):
            assert value(one, name)[keep].abs().unique().tolist() == pytest.approx([constant])
            assert bool((value(one, name)[~keep] == 0).all())
        assert torch.equal(value(by_sign, name)[keep].sign(), value(first, name)[keep].sign())
        assert not torch.equal(value(by_lot, name)[keep].sign(), value(first, name)[keep].sign())
        assert torch.equal(value(by_sign, "hidden.bias"), value(first, "hidden.bias"))


@pytest.mark.parametrize("as_classes_do", [True, False])
def test_drawn_anew_is_the_same_structure(as_classes_do: bool) -> None:
    found = ticket()
    again = drawn_anew(found, 5, as_classes_do=as_classes_do)
    assert torch.equal(
        value(again, "conv2.weight"), value(drawn_anew(found, 5, as_classes_do=as_classes_do), "conv2.weight")
    )
    for name in WEIGHTS:
        keep = masks_of(found, [name])[name].keep
        assert bool((value(again, name)[~keep] == 0).all())
        assert not torch.equal(value(again, name)[keep], value(found, name)[keep])
        if not as_classes_do:  # the same numbers elsewhere
            assert torch.equal(value(again, name)[keep].sort().values, value(found, name)[keep].sort().values)


def test_a_structured_ticket_is_the_first_network_without_the_channels_that_the_trained_one_lost() -> None:
    first, trained = (network_of(Residual(), 1, 8, 8, seed=seed) for seed in (0, 1))
    whole = cost_of(first).parameters
    start, inherited = (smaller(side, trained, "structured", "global", 0.6, whole) for side in (first, trained))
    assert left_of(start, "structured", whole) <= 0.6
    assert cost_of(start) == cost_of(inherited)
    wanted = value(first, "stem.weight").flatten(1)
    found = value(start, "stem.weight").flatten(1)
    assert all(any(torch.equal(row, other) for other in wanted) for row in found)
    places = [next(i for i, other in enumerate(wanted) if torch.equal(row, other)) for row in found]
    theirs = value(trained, "stem.weight").flatten(1)
    of_trained = value(inherited, "stem.weight").flatten(1)
    assert torch.equal(theirs[places], of_trained)  # the same channels went


def test_another_network_isnt_its_first_weights() -> None:
    network = chain(0)
    assert weight_names(network) == WEIGHTS
    found = with_weights_of(network, chain(1))
    assert all(torch.equal(value(found, name), value(chain(1), name)) for name in WEIGHTS)
    with pytest.raises(MethodError, match="only one") as fault:
        with_weights_of(network, network_of(Residual(), 1, 8, 8))
    assert fault.value.where
    small = smaller(chain(0), chain(0), "structured", "global", 0.5, cost_of(chain(0)).parameters)
    with pytest.raises(MethodError, match="shape"):
        with_weights_of(network, small)
