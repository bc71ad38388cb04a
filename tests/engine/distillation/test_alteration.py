"""What is done to the samples of a step: images moved against slices by hand, and the step that moves them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from compression.data import Dataset, Split
from compression.distillation.alteration import Alteration, moved
from compression.errors import SpecError
from compression.methods.distill import Distill, apply
from compression.network import Network
from compression.registry import StepResult
from tests.engine.distillation.lessons import context, network
from tests.engine.nets import Chain, network_of


def test_an_image_is_moved_and_its_edge_repeated() -> None:
    images = torch.arange(3 * 2 * 4 * 5, dtype=torch.float32).reshape(3, 2, 4, 5)
    found = moved(images, torch.tensor([[0, 0], [1, -2], [-3, 4]]))
    assert torch.equal(found[0], images[0])
    down_left = torch.cat([images[1, :, :1], images[1, :, :3]], 1)
    down_left = torch.cat([down_left[:, :, 2:], down_left[:, :, -1:], down_left[:, :, -1:]], 2)
    assert torch.equal(found[1], down_left)
    assert torch.equal(found[2], images[2, :, 3:, :1].expand(2, 4, 5))  # one pixel of each channel is left


def test_each_sample_moves_by_itself_and_no_further_than_asked() -> None:
    spot = torch.zeros(200, 1, 9, 9)
    spot[:, :, 4, 4] = 1
    flat = torch.rand(200, 3)
    torch.manual_seed(0)
    found = Alteration(shift=2)(Split({"x": spot, "y": flat}, torch.arange(200)))
    places = {tuple(place) for place in torch.nonzero(found.inputs["x"])[:, 2:].tolist()}
    assert places == {(row, column) for row in range(2, 7) for column in range(2, 7)}
    assert torch.equal(found.inputs["y"], flat)  # no image
    assert found.labels is not None
    assert not Alteration()
    assert Alteration(shift=1)


def test_samples_with_labels_are_not_mixed() -> None:
    given = Split({"x": torch.randn(6, 4)}, torch.arange(6))
    mixing = Alteration(mixup=0.4)
    assert torch.equal(mixing(given, mixed=False).inputs["x"], given.inputs["x"])
    torch.manual_seed(1)
    assert not torch.equal(mixing(given).inputs["x"], given.inputs["x"])


def images(folder: Path, teacher: Network, student: Network, **fields: Any) -> StepResult:
    generator = torch.Generator().manual_seed(3)
    split = Split({"x": torch.randn(40, 1, 8, 8, generator=generator)}, torch.arange(40) % 5)
    spec = Distill.model_validate({"training": {"epochs": 1, "learning_rate": 0.01}, **fields})
    return apply(student, spec, replace(context(folder, teacher), data=Dataset(split, split, split, "classification")))


def test_student_and_control_see_images_moved(tmp_path: Path) -> None:
    teacher, student = network_of(Chain(), 1, 8, 8), network_of(Chain(), 1, 8, 8, seed=1)
    plain = images(tmp_path / "plain", teacher, student, control=True).facts
    shifted = images(tmp_path / "shift", teacher, student, control=True, shift=2).facts
    mixed = images(tmp_path / "mixed", teacher, student, control=True, hard_labels=False, mixup=1.0).facts
    for who in ("student", "control"):
        assert shifted[who]["loss"] != plain[who]["loss"]
    assert mixed["student"]["loss"] != plain["student"]["loss"]
    assert mixed["control"] == plain["control"]  # a mixed sample has no label to learn


def test_what_cannot_be_moved_is_told(tmp_path: Path) -> None:
    chain = network_of(Chain(), 1, 8, 8)
    with pytest.raises(SpecError, match="so far") as caught:
        images(tmp_path / "a", chain, chain, shift=8)
    assert caught.value.where == "/shift"
    flat = network()
    with pytest.raises(SpecError, match="for images") as caught:
        apply(flat, Distill(shift=1), context(tmp_path / "b", flat))
    assert caught.value.where == "/shift"


def test_the_seed_of_a_step_decides(tmp_path: Path) -> None:
    chain = network_of(Chain(), 1, 8, 8)

    def weights(name: str) -> list[Tensor]:
        return list(images(tmp_path / name, chain, chain, shift=1, noise=0.1).network.module.parameters())

    assert all(torch.equal(one, two) for one, two in zip(weights("a"), weights("b"), strict=True))
