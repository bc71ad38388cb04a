"""Which layers a step touches: the same selector for every method that touches layers."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from compression.errors import SpecError

Pattern = Annotated[str, Field(min_length=1, max_length=200)]


class LayerSelector(BaseModel):
    """Layers by name (`fc`), glob (`blocks.*.conv1`) or type (`type:Conv2d`); exclude wins over include."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    include: list[Pattern] = Field(default=["*"], max_length=1000, description="layers that the step may touch")
    exclude: list[Pattern] = Field(default=[], max_length=1000, description="layers that it must leave as they are")

    def unmatched(self, types: Mapping[str, str]) -> list[tuple[Literal["include", "exclude"], int, str]]:
        """(field, index, what is wrong) of each pattern that matches none of the layers, given as name → type: it is
        a typing error more often than not."""
        fields: tuple[tuple[Literal["include", "exclude"], list[str]], ...] = (
            ("include", self.include),
            ("exclude", self.exclude),
        )
        return [
            (field, index, f"no layer matches {pattern!r}; layers are {', '.join(list(types)[:20])}")
            for field, patterns in fields
            for index, pattern in enumerate(patterns)
            if not any(_matches(pattern, name, kind) for name, kind in types.items())
        ]

    def select(self, types: Mapping[str, str]) -> set[str]:
        """Names of the chosen layers, of those given as name → type. SpecError: a pattern matches none."""
        for field, index, message in self.unmatched(types):
            raise SpecError(message, f"/layers/{field}/{index}")
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
