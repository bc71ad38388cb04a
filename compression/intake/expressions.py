"""Code in the texts of a `.pt2` archive: symbolic expressions and guards, which torch evaluates and Niwaki never does.

Nothing here makes a file safe: these texts are not read anywhere else. A file whose texts are more than arithmetic is
refused so that its owner learns what is in it.
"""

from __future__ import annotations

import re
from typing import Any

from compression.errors import IntakeError

_NAME = re.compile(r"\['?\w{1,200}'?\]")  # as in L['image'].size()[0]
_CODE = re.compile(
    r"__|\b(?:import|eval|exec|compile|lambda|open|os|sys|subprocess|builtins|getattr|setattr|globals|locals|vars)\b"
)


def refuse_code(document: dict[str, Any], where: str) -> None:
    """IntakeError (model-unsafe): an expression or a guard of the parsed program holds code."""
    for text in _texts(document):
        if _CODE.search(_NAME.sub("", text)):
            message = f"an expression that is code, not arithmetic: {text[:100]!r}; no export of torch writes this"
            raise IntakeError(message, where, "model-unsafe")


def _texts(document: dict[str, Any]) -> list[str]:
    """Every guard, every "expr_str" at any depth, and the names of constrained symbols."""
    found: list[Any] = [document.get("guards_code"), document.get("range_constraints")]
    texts = [text for entry in found if isinstance(entry, list | dict) for text in entry]
    ahead: list[Any] = [document.get("graph_module")]
    while ahead:
        value = ahead.pop()
        if isinstance(value, dict):
            texts.append(value.get("expr_str"))
            ahead += [entry for entry in value.values() if isinstance(entry, dict | list)]
        elif isinstance(value, list):
            ahead += [entry for entry in value if isinstance(entry, dict | list)]
    return [text for text in texts if isinstance(text, str)]
