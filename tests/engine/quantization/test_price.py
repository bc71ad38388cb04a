"""The price of a bit: it rises as asked, and makes what takes many bytes meet the number aimed at."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from compression.quantization.price import FAST, FIRST_WEIGHT, MARGIN, SLOW, Aiming, Price, Rising


def test_a_weight_is_reached_evenly_after_three_fifths() -> None:
    price = Rising(tensors=2, steps=10, weights=50, weight=6.0)
    seen = []
    for _ in range(10):
        for name in ("a", "b"):
            price.hear(name, torch.tensor(1.0), torch.zeros(1))
        seen.append(price.of_a_bit() * 50)
    assert seen == pytest.approx([1, 2, 3, 4, 5, 6, 6, 6, 6, 6])


class Shrinking:
    """A network whose bits fall the faster the more they cost, and grow where they cost little: the fewer they are, the
    more it wants. Its files take a share of them that changes as it shrinks, and 180 bytes more."""

    def __init__(self, bits: float, rate: float) -> None:
        self.bits, self.rate, self.soundings = bits, rate, 0

    def file_bytes(self, free: Mapping[str, Tensor]) -> int:
        assert set(free) == {"w"}
        self.soundings += 1
        return round(180 + self.bits / 8 * (0.7 + 0.2 * self.bits / 1e6))

    def step(self, price: Price) -> None:
        price.hear("w", torch.tensor(self.bits, dtype=torch.float64), torch.zeros(1))
        self.bits *= math.exp(-self.rate * (float(price.weight) - 0.02 * math.sqrt(1e5 / self.bits)))


@pytest.mark.parametrize("steps", [300, 5000])
@pytest.mark.parametrize("limit", [1500, 5000, 20_000])
@pytest.mark.parametrize("rate", [60.0, 300.0])
def test_the_bytes_aimed_at_are_met(steps: int, limit: int, rate: float) -> None:
    network = Shrinking(1e6, rate / steps)
    price = Aiming(1, steps, 1000, limit, network.file_bytes, steps // 20)
    for _ in range(steps):
        network.step(price)
    assert network.soundings == 20
    assert network.file_bytes({"w": torch.zeros(1)}) == pytest.approx(limit, rel=0.1)


def test_it_moves_by_how_far_the_bits_are_off_and_goes_on_where_it_was_saved() -> None:
    first = Aiming(1, 120, 1000, 500, lambda _: 1000, 60)  # half of it the bits below
    first.hear("w", torch.tensor(4000.0), torch.zeros(1))
    wanted = math.log(1000) + (math.log(MARGIN * 500) - math.log(1000)) / 72
    assert float(first.weight) == pytest.approx(
        FIRST_WEIGHT * math.exp((FAST + SLOW / 120) * (math.log(1000) - wanted))
    )
    second = Aiming(1, 120, 1000, 500, lambda _: 1, 60)
    second.load_state_dict(first.state_dict())
    for price in (first, second):
        price.hear("w", torch.tensor(3000.0), torch.zeros(1))
    assert float(first.weight) == float(second.weight)
    assert float(first.weight) != FIRST_WEIGHT
