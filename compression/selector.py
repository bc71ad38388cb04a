"""Which layers a step touches: the same selector for every method that touches layers."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from compression.errors import SpecError

if TYPE_CHECKING:
    from torch import nn

Pattern = Annotated[str, Field(min_length=1, max_length=200)]


class LayerSelector(BaseModel):
    """Layers by name (`fc`), glob (`blocks.*.conv1`) or type (`type:Conv2d`); exclude wins over include."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    include: list[Pattern] = Field(default=["*"], max_length=1000, description="layers that the step may touch")
    exclude: list[Pattern] = Field(default=[], max_length=1000, description="layers that it must leave as they are")

    def select(self, layers: Mapping[str, nn.Module]) -> set[str]:
        """Names of the chosen layers. A pattern that matches none is a SpecError: it is a typing error more often
        than not."""
        types = {name: type(module).__name__ for name, module in layers.items()}
        for field, patterns in (("include", self.include), ("exclude", self.exclude)):
            for index, pattern in enumerate(patterns):
                if not any(_matches(pattern, name, kind) for name, kind in types.items()):
                    raise SpecError(
                        f"no layer matches {pattern!r}; layers are {', '.join(list(types)[:20])}",
                        f"/layers/{field}/{index}",
                    )
        return {
            name
            for name, kind in types.items()
            if any(_matches(pattern, name, kind) for pattern in self.include)
            and not any(_matches(pattern, name, kind) for pattern in self.exclude)
        }


def _matches(pattern: str, name: str, kind: str) -> bool:
    if pattern.startswith("type:"):
        return fnmatchcase(kind, pattern.removeprefix("type:"))
    return fnmatchcase(name, pattern)
