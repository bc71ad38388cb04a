"""Names made of those in the file: of modules and tensors, and of inputs and outputs."""

from __future__ import annotations

import re
from collections.abc import Iterable

from compression.vocabulary import is_identifier

_OWNED = re.compile(r"[._](weights?|bias|scale|gamma|running_mean|W|w_0|kernel|ReadVariableOp)(:0)?$")
_TENSORFLOW = re.compile(
    r"(ReadVariableOp|Cast|MatMul|Reshape|ExpandDims|BiasAdd|Tensordot|GatherV2|Squeeze|Conv2D|resource|merged_input|"
    r"convolution|conv_transpose|depthwise|separable_conv[12]d)(_\d+)?(:\d+)?"
)
"""What TensorFlow's names have behind the layer's: "sequential/dense/MatMul/ReadVariableOp:0"."""
_CALLS = frozenset({"StatefulPartitionedCall", "PartitionedCall", "Func"})
_LONGEST = 60


def module_path(weight: str, node: str, operator: str) -> str:
    """The path of a layer: that of its stored weight ("conv1.weight" → "conv1"); where the exporter made that name up
    ("onnx::Conv_12", "val_3", "12") that of its node ("/stem/stem.0/Conv" → "stem.0"), both without
    TensorFlow's ends."""
    if weight and not re.match(r"onnx::|val_?\d|_?\d+$|const|auto_", weight):
        return _path(_layer_scopes(weight) if "/" in weight else _OWNED.sub("", weight).split("."))
    scopes = _layer_scopes(node)
    if scopes and re.fullmatch(rf"{re.escape(operator)}(_\d+)?", scopes[-1]) and len(scopes) > 1:
        scopes.pop()
    parts: list[str] = []
    for scope in scopes:
        if parts and scope.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(scope)
    return _path(".".join(parts).split(".")) or operator.lower()


def _layer_scopes(name: str) -> list[str]:
    scopes = [scope for scope in name.split("/") if scope and scope not in _CALLS]
    while len(scopes) > 1 and _TENSORFLOW.fullmatch(scopes[-1]):
        scopes.pop()
    return scopes


def tensor_path(name: str) -> str:
    return _path(name.split(".")) or "constant"


def identifiers(names: Iterable[str], taken: Iterable[str] = ()) -> tuple[str, ...]:
    """The names as identifiers, all different from each other and from those taken."""
    used = {*taken}
    found = []
    for name in names:
        plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:_LONGEST] or "value"
        if plain[0].isdigit() or not is_identifier(plain):
            plain = f"value_{plain}"
        unique, count = plain, 1
        while unique in used:
            unique, count = f"{plain}_{count}", count + 1
        used.add(unique)
        found.append(unique)
    return tuple(found)


def _path(parts: Iterable[str]) -> str:
    plain = (re.sub(r"\W+", "_", part, flags=re.ASCII).strip("_")[:_LONGEST] for part in parts)
    return ".".join([part for part in plain if part][-6:])
