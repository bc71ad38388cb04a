"""What the JSON of a `.pt2` archive can say: pickles, code, tensors beyond their bytes, and graphs that exhaust."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from tests.hostile.case import Cases, trap
from tests.hostile.valid import CONSTANTS, MODEL, WEIGHTS, archive_members, archive_of, document, with_document

CASES = Cases()
UNSAFE, UNREADABLE, OPERATOR = "model-unsafe", "model-unreadable", "operator-unsupported"
Json = dict[str, Any]


def _edited(member: str, edit: Callable[[Json], Any]) -> bytes:
    changed = document(member)
    edit(changed)
    return with_document(member, changed)


@CASES.add("pt2: sample inputs are never opened", "model.pt2")
def _(canary: str) -> bytes:
    return archive_of(archive_members() | {"data/sample_inputs/model.pt": trap(canary)})


@CASES.add("pt2: a pickled weight", "model.pt2", UNSAFE)
def _(canary: str) -> bytes:
    config = document(WEIGHTS)
    config["config"]["fc.weight"]["use_pickle"] = True
    weight = "data/weights/" + config["config"]["fc.weight"]["path_name"]
    return archive_of(archive_members() | {WEIGHTS: json.dumps(config).encode(), weight: trap(canary)})


@CASES.add("pt2: an opaque constant", "model.pt2", UNSAFE, UNREADABLE)
def _(canary: str) -> bytes:
    config = document(CONSTANTS)
    config["config"]["c"] = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    payload = {"data/constants/opaque_obj_0": trap(canary)}
    return archive_of(archive_members() | {CONSTANTS: json.dumps(config).encode()} | payload)


def _code(canary: str) -> str:
    return f"__import__('os').system('touch {canary}')"


@CASES.add("pt2: code in a symbolic expression", "model.pt2", UNSAFE)
def _(canary: str) -> bytes:
    def edit(program: Json) -> None:
        graph = program["graph_module"]["graph"]
        for value in graph["sym_int_values"].values():
            value["as_expr"]["expr_str"] = _code(canary) + " or Symbol('s77', positive=True, integer=True)"

    return _edited(MODEL, edit)


@CASES.add("pt2: code in an input's length", "model.pt2", UNSAFE)
def _(canary: str) -> bytes:
    def edit(program: Json) -> None:
        sizes = program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        sizes[0] = {"as_expr": {"expr_str": f"eval({_code(canary)!r})", "hint": {"as_int": 2}}}

    return _edited(MODEL, edit)


@CASES.add("pt2: code in a guard", "model.pt2", UNSAFE)
def _(canary: str) -> bytes:
    return _edited(MODEL, lambda program: program.update(guards_code=[_code(canary) + " == 0"]))


@CASES.add("pt2: code in a range's name", "model.pt2", UNSAFE)
def _(canary: str) -> bytes:
    ranges = {_code(canary): {"min_val": 1, "max_val": 9}}
    return _edited(MODEL, lambda program: program.update(range_constraints=ranges))


@CASES.add("pt2: code for a name", "model.pt2", UNREADABLE)
def _(canary: str) -> bytes:
    members = archive_members()
    members[MODEL] = members[MODEL].replace(b'"x"', json.dumps("x=" + _code(canary)).encode())
    return archive_of(members)


@CASES.add("pt2: code in a module's path", "model.pt2", UNREADABLE, UNSAFE)
def _(canary: str) -> bytes:
    members = archive_members()
    for name in (MODEL, WEIGHTS):
        members[name] = members[name].replace(b"fc.weight", _code(canary).replace("'", "").encode())
    return archive_of(members)


def _node(target: str, *arguments: Any, output: str = "n", keyword: str = "") -> Json:
    inputs = [{"name": keyword, "arg": argument, "kind": 2 if keyword else 1} for argument in arguments]
    return {"target": target, "inputs": inputs, "outputs": [{"as_tensor": {"name": output}}]}


def _tensor(name: str) -> Json:
    return {"as_tensor": {"name": name}}


def _first(*nodes: Json) -> bytes:
    return _edited(MODEL, lambda program: program["graph_module"]["graph"]["nodes"].__setitem__(slice(0, 0), nodes))


TARGETS = (
    "torch.os.system", "os.system", "builtins.eval", "torch.ops.aten.from_file.default", "torch.ops.higher_order.cond",
    "_operator.attrgetter", "_operator.methodcaller", "torch.ops.aten.add.out", "torch.ops.aten.relu.__class__",
    "torch.ops.inductor._alloc_from_pool.default", "math.sqrt", "torch.load", "torch.sym_not", "call_torchbind",
)  # fmt: skip
for _target in TARGETS:
    CASES.add(f"pt2: calls {_target}", "model.pt2", OPERATOR)(
        lambda canary, target=_target: _first(_node(target, {"as_string": f"touch '{canary}'"}))
    )


@CASES.add("pt2: code for a keyword", "model.pt2", UNREADABLE)
def _(canary: str) -> bytes:
    return _first(_node("torch.ops.aten.relu.default", _tensor("x"), keyword=f"a={_code(canary)}, self"))


def _layout(change: Json) -> bytes:
    return _edited(WEIGHTS, lambda config: config["config"]["fc.weight"]["tensor_meta"].update(change))


def _ints(*numbers: object) -> list[Json]:
    return [{"as_int": number} for number in numbers]


LAYOUTS: dict[str, Json] = {
    "an offset past the end": {"storage_offset": {"as_int": 1}},
    "a negative offset": {"storage_offset": {"as_int": -1}},
    "an offset of 2^62": {"storage_offset": {"as_int": 2**62}},
    "an offset of 2^80": {"storage_offset": {"as_int": 2**80}},
    "a stride past the end": {"strides": _ints(10**6, 1)},
    "a negative stride": {"strides": _ints(-4, 1)},
    "sizes whose product overflows": {"sizes": _ints(2**33, 2**33), "strides": _ints(0, 0)},
    "a size of 2^40 by stride 0": {"sizes": _ints(2**40, 4), "strides": _ints(0, 1)},
    "a size of 2^63 - 1": {"sizes": _ints(2**63 - 1, 1), "strides": _ints(1, 1)},
    "an empty axis": {"sizes": _ints(0, 2**62)},
    "a negative size": {"sizes": _ints(-3, -4)},
    "a size that is a text": {"sizes": _ints("3", 4)},
    "17 axes": {"sizes": _ints(*[1] * 17), "strides": _ints(*[1] * 17)},
    "a wider type": {"dtype": 8},
    "an unknown type": {"dtype": 999},
    "a sparse layout": {"layout": 1},
}
for _name, _change in LAYOUTS.items():
    CASES.add(f"pt2: a weight with {_name}", "model.pt2", UNSAFE, UNREADABLE)(lambda _, change=_change: _layout(change))

PATHS = ("../../../../etc/passwd", "/etc/passwd", "weight_0/../weight_1", "weight_0\0", "weight_" + "9" * 400)
for _path in PATHS:
    CASES.add(f"pt2: a weight at {_path[:24]!r}", "model.pt2", UNREADABLE)(
        lambda _, path=_path: _edited(WEIGHTS, lambda config: config["config"]["fc.weight"].update(path_name=path))
    )


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEF"
EINSUM = ",".join(LETTERS[at : at + 4] for at in range(0, 32, 4)) + "->" + LETTERS


def _zeros(*sizes: int, output: str = "n") -> Json:
    node = _node("torch.ops.aten.zeros.default", {"as_ints": list(sizes)}, output=output)
    node["inputs"].append({"name": "dtype", "arg": {"as_scalar_type": 7}, "kind": 2})
    return node


CASES.add("pt2: zeros of 4 TiB", "model.pt2", UNSAFE)(lambda _: _first(_zeros(2**20, 2**20)))
CASES.add("pt2: zeros of 2^62 elements", "model.pt2", UNSAFE, UNREADABLE)(lambda _: _first(_zeros(2**31, 2**31)))
CASES.add("pt2: zeros of 2 GiB", "model.pt2", UNSAFE)(lambda _: _first(_zeros(2**29)))
CASES.add("pt2: twenty times zeros of 200 MiB, all in use", "model.pt2", UNSAFE)(lambda _: _many_zeros())
CASES.add("pt2: zeros repeated", "model.pt2", UNSAFE)(
    lambda _: _first(
        _zeros(2**10, output="small"), _node("torch.ops.aten.repeat.default", _tensor("small"), {"as_ints": [2**25]})
    )
)
CASES.add("pt2: expand, then a copy", "model.pt2", UNSAFE)(
    lambda _: _first(
        _zeros(1, output="one"),
        _node("torch.ops.aten.expand.default", _tensor("one"), {"as_ints": [2**29]}, output="wide"),
        _node("torch.ops.aten.relu.default", _tensor("wide")),
    )
)
CASES.add("pt2: padding of 2^30", "model.pt2", UNSAFE, UNREADABLE)(
    lambda _: _first(
        _node("torch.ops.aten.constant_pad_nd.default", _tensor("x"), {"as_ints": [0, 2**30]}, {"as_float": 0.0})
    )
)
CASES.add("pt2: a product that copies 2^32 and gives 2^20", "model.pt2", UNSAFE)(
    lambda _: _first(
        _zeros(2**10, 1, 1, 2**12, output="rows"),
        _zeros(1, 2**10, 2**12, 1, output="columns"),
        _node("torch.ops.aten.matmul.default", _tensor("rows"), _tensor("columns")),
    )
)
CASES.add("pt2: upsampling to 2^20 squared", "model.pt2", UNSAFE, OPERATOR)(
    lambda _: _first(
        _node("torch.ops.aten.upsample_nearest2d.vec", _tensor("x"), {"as_ints": [2**20] * 2}, {"as_none": True})
    )
)
CASES.add("pt2: numbers from 0 to 2^40", "model.pt2", UNSAFE)(
    lambda _: _first(_node("torch.ops.aten.arange.default", {"as_int": 2**40}))
)
CASES.add("pt2: a padded text instead of a number", "model.pt2", UNREADABLE)(
    lambda _: _first(_node("_operator.mod", {"as_string": "%999999999d"}, {"as_int": 1}))
)
CASES.add("pt2: an outer product of eight images", "model.pt2", UNREADABLE, UNSAFE, OPERATOR)(
    lambda _: _first(_node("torch.ops.aten.einsum.default", {"as_string": EINSUM}, {"as_tensors": [{"name": "x"}] * 8}))
)


def _many_zeros() -> bytes:
    made = [_zeros(50 << 20, output=f"z{n}") for n in range(20)]
    sums = [
        _node("torch.ops.aten.add.Tensor", _tensor("z0" if n == 1 else f"s{n - 1}"), _tensor(f"z{n}"), output=f"s{n}")
        for n in range(1, 20)
    ]
    return _first(*made, *sums)


def _used(*nodes: Json) -> Json:
    """A program that computes `nodes` from x and gives the value "last"."""
    program = document(MODEL)
    module = program["graph_module"]
    users = [spec for spec in module["signature"]["input_specs"] if "user_input" in spec]
    module["signature"]["input_specs"] = users
    module["graph"]["nodes"] = list(nodes)
    module["signature"]["output_specs"] = [{"user_output": {"arg": _tensor("last")}}]
    return program


@CASES.add("pt2: 15,000 operators", "model.pt2", UNSAFE)
def _(_: str) -> bytes:
    names = ["x", *(f"n{number}" for number in range(14_999)), "last"]
    relu = "torch.ops.aten.relu.default"
    chain = (_node(relu, _tensor(source), output=made) for source, made in pairwise(names))
    return with_document(MODEL, _used(*chain))


@CASES.add("pt2: a value doubled 60 times by cat", "model.pt2", UNSAFE)
def _(_: str) -> bytes:
    names = ["x", *(f"n{number}" for number in range(59)), "last"]
    chain = (
        _node("torch.ops.aten.cat.default", {"as_tensors": [{"name": source}] * 2}, {"as_int": 1}, output=made)
        for source, made in pairwise(names)
    )
    return with_document(MODEL, _used(*chain))


@CASES.add("pt2: an output of 480 MiB", "model.pt2", UNSAFE)
def _(_: str) -> bytes:
    pads = _node(
        "torch.ops.aten.constant_pad_nd.default",
        _tensor("x"),
        {"as_ints": [0, 6_900_000]},
        {"as_float": 0.0},
        output="m",
    )
    return _edited(MODEL, lambda program: _insert_used(program, [pads]))


@CASES.add("pt2: an average over 2^20 columns at every one of 2^21", "model.pt2", "too-slow")
def _(_: str) -> bytes:
    pads = _node("torch.ops.aten.constant_pad_nd.default", _tensor("x"), {"as_ints": [0, 2**21]}, {"as_float": 0.0})
    sizes = [{"as_ints": [1, 2**20]}, {"as_ints": [1, 1]}]
    average = _node("torch.ops.aten.avg_pool2d.default", _tensor("n"), *sizes, output="m")
    return _edited(MODEL, lambda program: _insert_used(program, [pads, average]))


def _insert_used(program: Json, nodes: list[Json]) -> None:
    """Puts `nodes`, of which the last is "m", in front, and makes their result an output."""
    module = program["graph_module"]
    module["graph"]["nodes"][:0] = nodes
    module["signature"]["output_specs"].append({"user_output": {"arg": _tensor("m")}})


@CASES.add("pt2: 6,000 weights that take turns at two members", "model.pt2", UNSAFE)
def _(_: str) -> bytes:
    config, program = document(WEIGHTS), document(MODEL)
    weight = config["config"]["fc.weight"]
    specs = program["graph_module"]["signature"]["input_specs"]
    for number in range(6000):
        layout = weight["tensor_meta"] | {"storage_offset": {"as_int": number}}
        config["config"][f"w{number}"] = weight | {"path_name": f"weight_{98 + number % 2}", "tensor_meta": layout}
        specs.append({"parameter": {"arg": {"name": f"p{number}"}, "parameter_name": f"w{number}"}})
    changed = {MODEL: json.dumps(program).encode(), WEIGHTS: json.dumps(config).encode()}
    shared = {f"data/weights/weight_{number}": bytes(32 << 20) for number in (98, 99)}
    return archive_of(archive_members() | changed | shared)


JSON_BOMBS: dict[str, Callable[[], bytes]] = {
    "nested 200,000 deep": lambda: b"[" * 200_000,
    "nested 200,000 deep and closed": lambda: b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "a number of 5,000,000 digits": lambda: b'{"schema_version": ' + b"9" * 5_000_000 + b"}",
    "an exponent of 400": lambda: b'{"schema_version": {"major": 8e400}}',
    "NaN": lambda: b'{"schema_version": {"major": NaN}}',
    "a key twice": lambda: b'{"schema_version": {}, ' + archive_members()[MODEL].lstrip()[1:],
    "12,000,000 empty lists": lambda: b"[" + b"[]," * 12_000_000 + b"[]]",
    "3,000,000 objects": lambda: b"[" + b'{"a":1},' * 3_000_000 + b"{}]",
    "12,000,000 numbers": lambda: b"[" + b"1.5," * 12_000_000 + b"1]",
    "65 MiB of text": lambda: b'"' + b"a" * (65 << 20) + b'"',
    "not UTF-8": lambda: b'{"\xff\xfe": 1}',
    "a list at the top": lambda: b"[8]",
    "schema 9": lambda: archive_members()[MODEL].replace(b'"major": 8', b'"major": 9'),
    "no graph": lambda: b'{"schema_version": {"major": 8, "minor": 20}, "graph_module": {}}',
}
for _name, _make in JSON_BOMBS.items():
    CASES.add(f"pt2: JSON: {_name}", "model.pt2", UNSAFE, UNREADABLE)(
        lambda _, make=_make: archive_of(archive_members() | {MODEL: make()})
    )


@CASES.add("pt2: 400,000 arguments", "model.pt2", UNSAFE)
def _(_: str) -> bytes:
    arguments = [{"as_int": 1}] * 60
    return with_document(MODEL, _used(*[_node("torch.ops.aten.relu.default", *arguments)] * 7000))


@CASES.add("pt2: a value that is made of itself", "model.pt2", UNREADABLE)
def _(_: str) -> bytes:
    return _first(_node("torch.ops.aten.relu.default", _tensor("n")))


@CASES.add("pt2: an output that nothing makes", "model.pt2", UNREADABLE)
def _(_: str) -> bytes:
    return with_document(MODEL, _used())
