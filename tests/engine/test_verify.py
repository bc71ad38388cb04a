"""How far apart two outputs may be."""

import pytest
import torch
from torch import fx, nn

from compression.verify import SIGMOID_SCALE, TOLERANCE, least_scales, relative_error


@pytest.mark.parametrize(("last", "least"), [(nn.Sigmoid(), SIGMOID_SCALE), (nn.Tanh(), 0.0)])
def test_a_last_sigmoid_has_the_scale_of_its_range(last, least):
    assert least_scales(fx.symbolic_trace(nn.Sequential(nn.Linear(3, 2), last))) == [least]


def test_a_sigmoid_may_differ_by_a_few_units_in_the_last_place_of_one():
    small = torch.full((4, 5), 1e-3)
    for off, passes in ((4e-7, True), (1e-6, False)):
        assert (relative_error(small + off, small, SIGMOID_SCALE) <= TOLERANCE) is passes
        assert relative_error(small + off, small) > TOLERANCE
