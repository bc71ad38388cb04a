"""The engine's error tree.

NiwakiError
├── Refusal              the input can't be accepted; exit status 2, nothing is published
│   ├── SpecError        the spec is wrong (where = JSON pointer of the field)
│   ├── IntakeError      the model file can't be read or isn't allowed (where = file member, operator or layer)
│   ├── DataError        the data file can't be read or doesn't fit the network (where = array or file member)
│   └── MethodError      a method can't run on this network (where = layer)
└── VerificationError    a transform changed what it must not change; the original stands (where = layer or output)
"""

from __future__ import annotations


class NiwakiError(Exception):
    """An error with a stable `kind`, a message for people, and the thing at fault (`where`)."""

    kind = "error"

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where

    def as_dict(self) -> dict[str, str]:
        return {"kind": self.kind, "message": self.message, "where": self.where}

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Refusal(NiwakiError):
    kind = "refused"


class SpecError(Refusal):
    kind = "spec-invalid"


class IntakeError(Refusal):
    """`kind` tells the reasons apart: model-unreadable, model-unsafe, operator-unsupported, model-inexact …"""

    kind = "model-unreadable"

    def __init__(self, message: str, where: str = "", kind: str | None = None) -> None:
        super().__init__(message, where)
        if kind is not None:
            self.kind = kind


class DataError(Refusal):
    """`kind` tells the reasons apart: data-unreadable (damaged, or no such file), data-unsafe (what no honest writer
    makes: paths, links, bombs), data-invalid (sound, and doesn't fit)."""

    kind = "data-invalid"

    def __init__(self, message: str, where: str = "", kind: str | None = None) -> None:
        super().__init__(message, where)
        if kind is not None:
            self.kind = kind


class MethodError(Refusal):
    kind = "method-inapplicable"


class VerificationError(NiwakiError):
    kind = "verification-failed"
