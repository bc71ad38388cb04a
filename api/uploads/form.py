"""multipart/form-data as it comes in: the part `file` goes on its way, the fields are kept. Nothing is spooled here."""

from __future__ import annotations

from typing import Literal

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.problems import BodyUnreadable, RequestInvalid, UploadIncomplete, fault

FIELD_BYTES = 16 * 1024
FIELDS = 64
FILE = "file"


class Form:
    """Feed it the body's pieces: each answers with the file's bytes in it. `fields` and `filename` grow meanwhile."""

    def __init__(self, content_type: str) -> None:
        self.fields: dict[str, list[str]] = {}
        self.filename: str | None = None
        self.has_file = False
        self._ended = False
        self._found: list[bytes] = []
        self._name = ""
        self._value = bytearray()
        self._header = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._count = 0
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise BodyUnreadable("multipart/form-data needs a boundary in its Content-Type")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open,
                    "on_part_data": self._take,
                    "on_part_end": self._close,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise BodyUnreadable(f"not a form: {error}") from error

    def feed(self, data: bytes) -> bytes:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BodyUnreadable(f"not a form: {error}") from error
        found, self._found = b"".join(self._found), []
        return found

    def finish(self) -> None:
        """After the last piece. UploadIncomplete: the closing boundary didn't come."""
        if not self._ended:
            raise UploadIncomplete("the form's closing boundary didn't come; nothing was kept")
        if not self.has_file:
            wrong = fault(f"/{FILE}", "the form needs a part of this name with the file in it", "form")
            raise RequestInvalid(wrong["detail"], [wrong])

    @property
    def _part(self) -> Literal["file", "field"]:
        return "file" if self._name == FILE else "field"

    def _begin(self) -> None:
        self._count += 1
        if self._count > FIELDS:
            raise BodyUnreadable(f"a form has at most {FIELDS} parts")
        self._disposition = b""
        self._value.clear()

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header.clear()
        self._header_value.clear()

    def _open(self) -> None:
        options = parse_options_header(self._disposition)[1]
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part == "file":
            if self.has_file:
                raise BodyUnreadable("a form has one file")
            self.has_file = True
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace") or None

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._part == "file":
            self._found.append(data[start:end])
            return
        self._value.extend(data[start:end])
        if len(self._value) > FIELD_BYTES:
            raise BodyUnreadable(f"a field has at most {FIELD_BYTES} bytes")

    def _close(self) -> None:
        # An empty field of a web form says nothing.
        if self._part == "field" and (text := self._value.decode("utf-8", "replace")):
            self.fields.setdefault(self._name, []).append(text)

    def _end(self) -> None:
        self._ended = True
