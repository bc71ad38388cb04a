"""Names: of modules and tensors from those in the file, and of inputs and outputs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from torch import Tensor, nn

from compression.vocabulary import RESERVED, is_identifier

_OWNED = re.compile(r"[._](weights?|bias|scale|gamma|running_mean|W|w_0|kernel|ReadVariableOp)(:0)?$")
_LONGEST = 60


def module_path(weight: str, node: str, operator: str) -> str:
    """The path of a layer: that of its stored weight ("conv1.weight" → "conv1"); where the exporter made that name up
    ("onnx::Conv_12", "val_3", "12") that of its node ("/stem/stem.0/Conv" → "stem.0")."""
    if weight and not re.match(r"onnx::|val_?\d|_?\d+$|const|auto_", weight):
        return _path(_OWNED.sub("", weight).split("."))
    scopes = [scope for scope in node.split("/") if scope]
    if scopes and re.fullmatch(rf"{re.escape(operator)}(_\d+)?", scopes[-1]) and len(scopes) > 1:
        scopes.pop()
    parts: list[str] = []
    for scope in scopes:
        if parts and scope.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(scope)
    return _path(".".join(parts).split(".")) or operator.lower()


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


class Places:
    """Puts leaf modules and tensors into a tree of containers, at names that are free."""

    def __init__(self, root: nn.Module) -> None:
        self.root = root
        self.counts: Counter[str] = Counter()  # by a path that was taken: the number that the next one gets

    def module(self, path: str, leaf: nn.Module) -> str:
        holder, name, whole = self._free(path)
        holder.add_module(name, leaf)
        return whole

    def tensor(self, path: str, tensor: Tensor) -> str:
        holder, name, whole = self._free(_path(path.split(".")) or "constant")
        if isinstance(tensor, nn.Parameter):
            holder.register_parameter(name, tensor)
        else:
            holder.register_buffer(name, tensor)
        return whole

    def forget(self, path: str) -> None:
        """Takes a tensor away, and the containers that are empty then, so that a layer can have their name."""
        holder, _, name = path.rpartition(".")
        delattr(self.root.get_submodule(holder), name)
        while holder:
            inner = self.root.get_submodule(holder)
            outer, _, name = holder.rpartition(".")
            held = [*inner.children(), *inner.parameters(), *inner.buffers()]
            if type(inner) is not nn.Module or held:
                return
            delattr(self.root.get_submodule(outer), name)
            holder = outer

    def _free(self, path: str) -> tuple[nn.Module, str, str]:
        holder: nn.Module = self.root
        *containers, last = path.split(".")
        placed: list[str] = []
        for part in containers:
            name = _allowed(part)
            while hasattr(holder, name) and type(getattr(holder, name)) is not nn.Module:
                name += "_"
            if not hasattr(holder, name):
                holder.add_module(name, nn.Module())
            holder = getattr(holder, name)
            placed.append(name)
        name = _allowed(last)
        wanted = ".".join([*placed, name])
        while hasattr(holder, name):
            self.counts[wanted] += 1
            name = f"{_allowed(last)}_{self.counts[wanted]}"
        return holder, name, ".".join([*placed, name])


def _path(parts: Iterable[str]) -> str:
    plain = (re.sub(r"\W+", "_", part, flags=re.ASCII).strip("_")[:_LONGEST] for part in parts)
    return ".".join([part for part in plain if part][-6:])


def _allowed(part: str) -> str:
    while part in RESERVED:
        part += "_"
    return part
