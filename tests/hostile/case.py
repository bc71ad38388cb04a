"""One hostile file: how it is made, and what must become of it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["model", "data"]
Build = Callable[[str], bytes]


@dataclass(frozen=True)
class Case:
    """`build` is given a path, the canary, which whatever the file tries to run would make.

    `kinds`: the kinds of refusal that are right; none: the attack lies in a part that is never read, and the file is
    accepted without it."""

    name: str
    filename: str
    kind: Kind
    kinds: frozenset[str]
    build: Build


class Touch:
    """Unpickled, it makes the file `canary`."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.canary}'",)


def trap(canary: str, protocol: int = 4) -> bytes:
    """A pickle that runs code."""
    return pickle.dumps(Touch(canary), protocol=protocol)


class Cases(list[Case]):
    """A family of cases: `@cases.add(name, filename, kinds)` over a function that builds the bytes."""

    def add(self, name: str, filename: str, *kinds: str, kind: Kind = "model") -> Callable[[Build], Build]:
        def adding(build: Build) -> Build:
            self.append(Case(name, filename, kind, frozenset(kinds), build))
            return build

        return adding
