"""Every operator that is said to be lifted, in its forms: exact against ONNX Runtime at two batch sizes."""

import re
from pathlib import Path

import pytest
from onnx import helper

from compression.intake.onnx import NEWEST_OPSET, OLDEST_OPSET
from compression.intake.onnx.importer import OPERATORS
from tests.engine.intake.onnx.graphs import kinds, lifted, model, weights
from tests.engine.intake.onnx.operator_cases import CASES, IMAGE

node = helper.make_node
draw = weights()
ELSEWHERE = {"If", "MatMulNBits"}  # test_idioms.py, tests/engine/export/test_onnx_blocks.py


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]}-{index}" for index, case in enumerate(CASES)])
def test_an_operator_is_lifted_exactly(case, tmp_path):
    _, nodes, stored, shape, opset = case
    lifted(model(nodes, stored, shape, opset), tmp_path / "model.onnx")


def test_every_operator_is_tried():
    assert {case[0] for case in CASES} | ELSEWHERE == OPERATORS


@pytest.mark.parametrize("opset", range(OLDEST_OPSET, NEWEST_OPSET + 1))
def test_every_opset_is_read(opset, tmp_path):
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])]
    network = lifted(model(nodes, [draw("w", 3, 4, 3, 3)], IMAGE, opset), tmp_path / "model.onnx")
    assert kinds(network) == ["Conv2d", "ReLU"]


def test_the_document_lists_the_operators():
    text = (Path(__file__).parents[4] / "docs/intake.md").read_text()
    table = text.partition("| operators |")[2].partition("\n\n")[0]
    listed = re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:]))
    assert len(listed) == len(set(listed))
    assert set(listed) == OPERATORS
    assert f"opset {OLDEST_OPSET} to {NEWEST_OPSET}" in text
