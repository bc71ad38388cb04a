"""Archives that try to run code, to read beyond their bytes, or to exhaust the reader."""

import contextlib
import io
import json
import os
import pickle
import random
import struct
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compression.errors import IntakeError, Refusal
from compression.intake.model import read_model
from compression.network import Network
from tests.engine.intake import rewrite
from tests.engine.intake.rewrite import CONSTANTS, MODEL, WEIGHTS, edited


class Touch:
    """Unpickled, it makes the file `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def saved(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


@pytest.fixture
def source(archive):
    return archive("residual")


@pytest.fixture
def sentinel(tmp_path):
    """A file that no reading may make."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


def refusal(path):
    with pytest.raises(IntakeError) as caught:
        read_model(path)
    return caught.value


def test_the_rewritten_archive_itself_is_fine(source, tmp_path):
    assert isinstance(read_model(edited(source, tmp_path / "same.pt2", MODEL, lambda _: None)), Network)


def test_sample_inputs_are_never_unpickled(source, tmp_path, sentinel):
    content = rewrite.members(source)
    content["data/sample_inputs/model.pt"] = saved((Touch(sentinel),))
    assert isinstance(read_model(rewrite.write(tmp_path / "a.pt2", content)), Network)


def test_a_pickled_weight_is_refused(source, tmp_path, sentinel):
    content = rewrite.members(source)
    config = json.loads(content[WEIGHTS])
    config["config"]["fc.weight"]["use_pickle"] = True
    content[WEIGHTS] = json.dumps(config).encode()
    content["data/weights/" + config["config"]["fc.weight"]["path_name"]] = saved(Touch(sentinel))
    assert refusal(rewrite.write(tmp_path / "a.pt2", content)).kind == "model-unsafe"


def test_an_opaque_constant_is_refused(source, tmp_path, sentinel):
    content = rewrite.members(source)
    config = json.loads(content[CONSTANTS])
    payload = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    config["config"]["zz"] = payload
    content[CONSTANTS] = json.dumps(config).encode()
    content["data/constants/opaque_obj_0"] = pickle.dumps(Touch(sentinel))
    assert refusal(rewrite.write(tmp_path / "a.pt2", content)).where == CONSTANTS


def test_a_symbolic_expression_with_code_is_refused(source, tmp_path, sentinel):
    def edit(document):
        code = f"__import__('os').system('touch {sentinel}') or Symbol('s77', positive=True, integer=True)"
        graph = document["graph_module"]["graph"]
        for value in graph["sym_int_values"].values():
            value["as_expr"]["expr_str"] = code
        for layout in graph["tensor_values"].values():
            for size in layout["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = code

    error = refusal(edited(source, tmp_path / "a.pt2", MODEL, edit))
    assert error.kind == "model-unsafe"
    assert "__import__" in error.message


def test_a_guard_with_code_is_refused(source, tmp_path, sentinel):
    def edit(document):
        document["guards_code"] = [f"__import__('os').system('touch {sentinel}') == 0"]

    assert refusal(edited(source, tmp_path / "a.pt2", MODEL, edit)).kind == "model-unsafe"


def test_a_name_in_a_guard_may_look_like_code(source, tmp_path):
    def edit(document):
        document["guards_code"] = [
            "L['open'].size()[0] == L['args'][0].size()[0] // 2 and Mod(L['os'].size()[1], 2) != 1"
        ]

    assert isinstance(read_model(edited(source, tmp_path / "a.pt2", MODEL, edit)), Network)


@pytest.mark.parametrize(
    "target",
    ["torch.os.system", "os.system", "torch.ops.aten.from_file.default", "torch.ops.higher_order.cond",
     "_operator.attrgetter", "torch.ops.aten.add.out", "torch.ops.aten.relu.__class__", "torch.ops.aten.__init__.x"],
)  # fmt: skip
def test_an_operator_that_is_not_listed_is_never_called(source, tmp_path, sentinel, target):
    def edit(document):
        argument = {"name": "", "arg": {"as_string": f"touch {sentinel}"}, "kind": 1}
        node = {"target": target, "inputs": [argument], "outputs": [], "metadata": {}, "name": "n0"}
        document["graph_module"]["graph"]["nodes"].insert(0, node)

    error = refusal(edited(source, tmp_path / "a.pt2", MODEL, edit))
    assert (error.kind, error.where) == ("operator-unsupported", target)


def test_names_do_not_reach_the_generated_code(source, tmp_path, sentinel):
    bad = f"x=__import__('os').system('touch {sentinel}')"
    content = rewrite.members(source)
    content[MODEL] = content[MODEL].replace(b'"x"', json.dumps(bad).encode())
    refusal(rewrite.write(tmp_path / "a.pt2", content))


def test_a_keyword_does_not_reach_the_generated_code(source, tmp_path, sentinel):
    def edit(document):
        node = document["graph_module"]["graph"]["nodes"][-1]
        name = f"a=__import__('os').system('touch {sentinel}'), b"
        node["inputs"].append({"name": name, "arg": {"as_int": 1}, "kind": 2})

    assert "does not take" in refusal(edited(source, tmp_path / "a.pt2", MODEL, edit)).message


def test_compiled_code_is_refused(source, tmp_path):
    content = rewrite.members(source) | {"data/aotinductor/model/a.so": b"\x7fELF"}
    assert refusal(rewrite.write(tmp_path / "a.pt2", content)).kind == "model-unsafe"


def layout_of(document):
    return document["config"]["fc.weight"]["tensor_meta"]


@pytest.mark.parametrize(
    "change",
    [
        {"storage_offset": {"as_int": 1}},
        {"storage_offset": {"as_int": -1}},
        {"storage_offset": {"as_int": 2**62}},
        {"storage_offset": {"as_int": "NaN"}},
        {"strides": [{"as_int": 10**6}, {"as_int": 1}]},
        {"strides": [{"as_int": -8}, {"as_int": 1}]},
        {"sizes": [{"as_int": 2**40}, {"as_int": 8}]},
        {"sizes": [{"as_int": 2**40}, {"as_int": 8}], "strides": [{"as_int": 0}, {"as_int": 1}]},
        {"sizes": [{"as_int": 0}, {"as_int": 2**62}]},
        {"sizes": [{"as_expr": {"expr_str": "s0"}}, {"as_int": 8}]},
        {"dtype": 8},
        {"dtype": 99},
        {"layout": 1},
    ],
)
def test_a_view_beyond_its_bytes_is_refused(source, tmp_path, change):
    refusal(edited(source, tmp_path / "a.pt2", WEIGHTS, lambda document: layout_of(document).update(change)))


def test_nan_in_the_json_is_refused(source, tmp_path):
    content = rewrite.members(source)
    content[MODEL] = content[MODEL].replace(b'"as_float": 0.1', b'"as_float": NaN', 1)
    assert b"NaN" in content[MODEL]
    assert "not valid JSON" in refusal(rewrite.write(tmp_path / "a.pt2", content)).message


def test_a_key_that_comes_twice_is_refused(source, tmp_path):
    content = rewrite.members(source)
    content[MODEL] = b'{"graph_module": {}, ' + content[MODEL].lstrip()[1:]
    assert "twice" in refusal(rewrite.write(tmp_path / "a.pt2", content)).message


def test_nesting_without_end_is_refused(source, tmp_path):
    content = rewrite.members(source) | {MODEL: b"[" * 200_000}
    refusal(rewrite.write(tmp_path / "a.pt2", content))


def test_a_compressed_member_is_refused(source, tmp_path):
    path = rewrite.write(tmp_path / "a.pt2", rewrite.members(source), zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(path).message


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/absolute", "data\\evil", "data//twice", "data/./here"])
def test_an_odd_path_is_refused(source, tmp_path, name):
    assert refusal(rewrite.write(tmp_path / "a.pt2", rewrite.members(source) | {name: b""})).kind == "model-unsafe"


def test_a_member_that_comes_twice_is_refused(source, tmp_path):
    path = rewrite.write(tmp_path / "a.pt2", rewrite.members(source))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model/" + MODEL, b"{}")
    assert refusal(path).kind == "model-unsafe"


def test_two_top_folders_are_refused(source, tmp_path):
    path = rewrite.write(tmp_path / "a.pt2", rewrite.members(source))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/file", b"")
    assert refusal(path).kind == "model-unsafe"


def test_a_size_that_the_file_cannot_hold_is_refused(source, tmp_path):
    data = bytearray(rewrite.write(tmp_path / "a.pt2", rewrite.members(source)).read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)
    path = tmp_path / "b.pt2"
    path.write_bytes(data)
    refusal(path)


def test_a_wrong_checksum_is_refused(source, tmp_path):
    data = bytearray(rewrite.write(tmp_path / "a.pt2", rewrite.members(source)).read_bytes())
    data[data.index(b'"graph_module"') + 1] ^= 1
    path = tmp_path / "b.pt2"
    path.write_bytes(data)
    error = refusal(path)
    assert error.where == MODEL
    assert "damaged" in error.message


def test_a_value_of_absurd_size_is_refused_before_it_is_made(source, tmp_path):
    def edit(document):
        graph = document["graph_module"]["graph"]
        sizes = {"as_ints": [2**20, 2**20]}
        dtype = {"name": "dtype", "arg": {"as_scalar_type": 7}, "kind": 2}
        inputs = [{"name": "size", "arg": sizes, "kind": 1}, dtype]
        outputs = [{"as_tensor": {"name": "huge"}}]
        graph["nodes"].insert(0, {"target": "torch.ops.aten.zeros.default", "inputs": inputs, "outputs": outputs})

    assert refusal(edited(source, tmp_path / "a.pt2", MODEL, edit)).kind == "model-unsafe"


def test_arithmetic_on_anything_but_numbers_is_refused(source, tmp_path):
    def edit(document):
        arguments = [{"as_string": "%999999999d"}, {"as_int": 1}]
        inputs = [{"name": "", "arg": argument, "kind": 1} for argument in arguments]
        node = {"target": "_operator.mod", "inputs": inputs, "outputs": [{"as_sym_int": {"as_name": "n"}}]}
        document["graph_module"]["graph"]["nodes"].insert(0, node)

    assert "does not take" in refusal(edited(source, tmp_path / "a.pt2", MODEL, edit)).message


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"\0" * 1000, "neither"),
        (random.Random(0).randbytes(5000), "neither"),
        (b"PK\x03\x04", "zip"),
        (b"PK\x03\x04" + random.Random(1).randbytes(5000), "zip"),
        (pickle.dumps({"a": 1}), "torch.export.save"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "Keras"),
        (b"\x1c\0\0\0TFL3" + bytes(100), "Lite"),
        (b"\x08\x0a\x12\x07pytorch" + bytes(100), "ONNX"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "length"),
        (struct.pack("<Q", 2) + b"[]", "neither"),
        (struct.pack("<Q", 10) + b"{", "length"),
    ],
)
def test_what_is_no_model_is_told(tmp_path, content, word):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert word in refusal(path).message


def test_torch_save_and_torchscript_are_refused_with_the_way_out(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "weights.pth")
    torch.save({"a": torch.zeros(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.script(torch.nn.ReLU()).save(tmp_path / "script.pt")
    for name in ("weights.pth", "old.pth", "script.pt"):
        error = refusal(tmp_path / name)
        assert (error.kind, "torch.export.export" in error.message) == ("model-unsafe", True)


def test_every_truncation_is_refused(source, tmp_path):
    data = source.read_bytes()
    for length in {len(data) - 1, *range(1, len(data), len(data) // 40)}:
        path = tmp_path / "cut.pt2"
        path.write_bytes(data[:length])
        refusal(path)


def mutated(value, draw):
    """The JSON value with one place in it changed."""
    if isinstance(value, dict) and value and draw(st.booleans()) | (len(value) == 1):
        key = draw(st.sampled_from(sorted(value)))
        return value | {key: mutated(value[key], draw)}
    if isinstance(value, list) and value and draw(st.booleans()):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], mutated(value[index], draw), *value[index + 1 :]]
    odd = [None, True, 0, 1, -1, 3, 2**31, 2**63, 2**80, 0.5, "", "x", "relu", [], {}, [1], {"as_int": 4}, "Infinity"]
    return draw(st.sampled_from(odd))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_change_of_the_json_is_read_or_refused(archive, tmp_path_factory, data):
    """Changes go where they matter: nodes, signature, layouts of inputs, the weights' config."""
    source = archive(data.draw(st.sampled_from(["residual", "squeeze-excite", "attention"])))
    content = rewrite.members(source)
    member = data.draw(st.sampled_from([MODEL, MODEL, MODEL, WEIGHTS]))
    document = json.loads(content[member])
    if member == MODEL:
        module = document["graph_module"]
        place = data.draw(st.sampled_from(["nodes", "nodes", "tensor_values", "signature"]))
        holder, key = (module, place) if place == "signature" else (module["graph"], place)
        if place == "nodes":
            index = data.draw(st.integers(0, len(holder[key]) - 1))
            holder, key = holder[key], index
        holder[key] = mutated(holder[key], data.draw)
    else:
        document = mutated(document, data.draw)
    content[member] = json.dumps(document).encode()
    path = tmp_path_factory.mktemp("mutated") / "a.pt2"
    rewrite.write(path, content)
    with contextlib.suppress(Refusal):
        assert isinstance(read_model(path), Network)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 10**9), value=st.integers(0, 255))
def test_any_changed_byte_is_read_or_refused(archive, tmp_path_factory, place, value):
    data = bytearray(archive("squeeze-excite").read_bytes())
    data[place % len(data)] = value
    path = tmp_path_factory.mktemp("byte") / "a.pt2"
    path.write_bytes(data)
    with contextlib.suppress(Refusal):
        assert isinstance(read_model(path), Network)
