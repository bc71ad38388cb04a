"""What a browser posts of a page: the successful controls of its HTML, by name."""

from __future__ import annotations

import re
from html.parser import HTMLParser

Posted = dict[str, list[str]]


class _Controls(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.posted: Posted = {}
        self._select: str | None = None
        self._options: list[tuple[str, bool]] = []
        self._area: str | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        name = found.get("name")
        if tag == "input" and name is not None and (found["type"] != "checkbox" or "checked" in found):
            # One line, as a browser has it, and no NUL (HTML, "value sanitization algorithm", "tokenization").
            text = re.sub(r"[\r\n]", "", found.get("value") or "").replace("\0", "\ufffd")
            self.posted.setdefault(name, []).append(text)
        elif tag == "select":
            self._select, self._options = name, []
        elif tag == "option" and self._select is not None:
            self._options.append((found["value"] or "", "selected" in found))
        elif tag == "textarea":
            self._area, self._text = name, ""

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "select" and self._select is not None and self._options:
            chosen = next((value for value, selected in self._options if selected), self._options[0][0])
            self.posted.setdefault(self._select, []).append(chosen)
            self._select = None
        elif tag == "textarea" and self._area is not None:
            self.posted.setdefault(self._area, []).append(self._text.removeprefix("\n"))
            self._area = None


def posted(html: str) -> Posted:
    controls = _Controls()
    controls.feed(html)
    return controls.posted
