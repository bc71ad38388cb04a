"""The one refusal of all decoders: a payload that no encoder of ours wrote."""

from __future__ import annotations

from compression.errors import IntakeError


def malformed(message: str) -> IntakeError:
    return IntakeError(f"a coded tensor is damaged: {message}")
