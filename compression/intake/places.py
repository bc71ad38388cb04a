"""Where modules and tensors of a network that is read are put: under their names in the file, where those are free."""

from __future__ import annotations

from collections import Counter

from torch import Tensor, nn

from compression.vocabulary import RESERVED


class Places:
    """Puts leaf modules and tensors into a tree of containers, at paths near those that are wanted: a part that would
    hide an attribute of a module, or is taken, is changed. Each answers with the path that it became."""

    def __init__(self, root: nn.Module) -> None:
        self.root = root
        self.counts: Counter[str] = Counter()  # by a path that was taken: the number that the next one gets

    def module(self, path: str, leaf: nn.Module) -> str:
        holder, name, whole = self._free(path)
        holder.add_module(name, leaf)
        return whole

    def tensor(self, path: str, tensor: Tensor) -> str:
        holder, name, whole = self._free(path)
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


def _allowed(part: str) -> str:
    while part in RESERVED:
        part += "_"
    return part
