"""Names in a graph: of what a node calls, and of parameters that have several owners."""

from __future__ import annotations

from torch import fx, nn
from torch._ops import OpOverload

from compression.vocabulary import tensor_names


def operator_name(node: fx.Node, modules: dict[str, nn.Module] | None = None) -> str:
    """The plain name of what a node calls: `Conv2d`, `add`, `cat` …"""
    if node.op == "call_module" and modules is not None:
        return type(modules[str(node.target)]).__name__
    if isinstance(node.target, OpOverload):
        return str(node.target.overloadpacket.__name__).rstrip("_")
    return node.target if isinstance(node.target, str) else str(getattr(node.target, "__name__", node.target))


def shared_parameters(module: nn.Module) -> set[str]:
    """Names of the modules of which a parameter belongs to another module too."""
    owners: dict[int, set[int]] = {}
    names: dict[int, str] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        names.setdefault(id(part), path)
        for parameter in part.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(id(part))
    return {names[part] for parts in owners.values() if len(parts) > 1 for part in parts}


def shared_tensors(module: fx.GraphModule) -> set[str]:
    """Names of the tensors that have another name too."""
    names: dict[int, list[str]] = {}
    for name, (tensor, _) in tensor_names(module).items():
        names.setdefault(id(tensor), []).append(name)
    return {name for alike in names.values() if len(alike) > 1 for name in alike}
