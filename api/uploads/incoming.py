"""An upload's bytes on their way to the object store: a raw body or a form, in constant memory, kept when whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from fastapi import Request
from python_multipart.multipart import parse_options_header

from api.problems import BodyTooLarge, UploadEmpty, UploadIncomplete
from api.uploads.facts import DatasetFacts, with_fields
from api.uploads.form import Form
from store.objects import Objects, Stored

FORM_BYTES = 1024**2  # what a form may add around its file
Fields = dict[str, list[str]]


class Received(NamedTuple):
    stored: Stored
    facts: DatasetFacts


class Incoming:
    """One request's upload. `chunks` raises before its end where anything is wrong, so that the store keeps nothing.

    `read` puts a form's fields over what the query said, or raises RequestInvalid.
    """

    def __init__(
        self, request: Request, facts: DatasetFacts, read: Callable[[DatasetFacts, Fields], DatasetFacts] = with_fields
    ) -> None:
        self._request = request
        self._read = read
        self.facts = facts
        content_type = request.headers.get("content-type", "")
        is_form = content_type.lower().startswith("multipart/form-data")
        self._form = Form(content_type) if is_form else None
        length = request.headers.get("content-length", "")
        self._length = int(length) if length.isdecimal() else None

    @property
    def fields(self) -> Fields:
        """The form's fields that have come so far."""
        return {} if self._form is None else self._form.fields

    async def receive(self, objects: Objects, limit: int) -> Received:
        allowed = limit + (FORM_BYTES if self._form else 0)
        if self._length is not None and self._length > allowed:
            raise BodyTooLarge(f"{self._length} bytes, {limit} are allowed", headers={"Connection": "close"})
        stored = await objects.put_stream(self._chunks(), limit)
        return Received(stored, self.facts)

    async def _chunks(self) -> AsyncIterator[bytes]:
        came, kept = 0, 0
        async for piece in self._request.stream():
            came += len(piece)
            data = piece if self._form is None else self._form.feed(piece)
            kept += len(data)
            if data:
                yield data
        if self._length is not None and came != self._length:
            raise UploadIncomplete(f"{came} bytes came of {self._length}; nothing was kept")
        self._complete()
        if not kept:
            raise UploadEmpty("a file of no bytes is neither a model nor a dataset")

    def _complete(self) -> None:
        """What the form said is known only now: a wrong field must not leave its file behind."""
        said = self.facts.filename
        if self._form is not None:
            self._form.finish()
            named = {"filename": [self._form.filename]} if self._form.filename and not said else {}
            self.facts = self._read(self.facts, {**named, **self._form.fields})
        elif said is None:
            options = parse_options_header(self._request.headers.get("content-disposition"))[1]
            if filename := options.get(b"filename", b"").decode("utf-8", "replace"):
                self.facts = with_fields(self.facts, {"filename": [filename]})
