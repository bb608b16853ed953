"""A streaming parser of `multipart/form-data`: no part is buffered unless the reader does so.

Source: RFC 7578, and RFC 2046 section 5.1 for the boundary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ashore.core.errors import InvalidRequest

MAX_HEAD_BYTES: Final = 8192
MAX_PARTS: Final = 32

_BOUNDARY: Final = re.compile(r'boundary=(?:"([^"]{1,70})"|([0-9A-Za-z\'()+_,./:=?-]{1,70}))', re.IGNORECASE)
_PARAMETER: Final = re.compile(r'\b(name|filename)="((?:[^"\\\r\n]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Part:
    """The head of a part; its data follow."""

    name: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of the part that began last."""

    piece: bytes


def boundary_of(content_type: bytes) -> bytes:
    """Return the boundary that a `content-type` header names.

    Raises:
        InvalidRequest: it is not multipart/form-data, or names none.
    """
    text = content_type.decode("latin-1")
    found = _BOUNDARY.search(text)
    if not text.lower().startswith("multipart/form-data") or found is None:
        raise InvalidRequest(
            f"the content-type is {text[:80]!r}; expected multipart/form-data with a boundary",
            hint="send the file as a form",
        )
    return (found[1] or found[2]).encode("latin-1")


class FormReader:
    """Turns chunks of a body into parts and pieces. `feed` for each chunk, `end` after the last."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._pending = b"\r\n"
        self._state = "before"
        self._parts = 0

    def feed(self, chunk: bytes) -> Iterator[Part | Data]:
        """Yield the parts and pieces that `chunk` completes.

        Raises:
            InvalidRequest: the form is malformed.
        """
        self._pending += chunk
        while True:
            if self._state == "end":
                self._pending = b""
                return
            if self._state == "head":
                part = self._head()
                if part is None:
                    return
                yield part
                continue
            at = self._pending.find(self._delimiter)
            body = self._pending[:at] if at >= 0 else self._pending[: -(len(self._delimiter) + 1)]
            if at < 0:
                self._pending = self._pending[len(body) :]
                if self._state == "body" and body:
                    yield Data(body)
                return
            after = self._pending[at + len(self._delimiter) :]
            if len(after) < 2:
                self._pending = self._pending[at:]
                if self._state == "body" and body:
                    yield Data(body)
                return
            if self._state == "body" and body:
                yield Data(body)
            self._pending = after
            if after.startswith(b"--"):
                self._state = "end"
            elif after.startswith(b"\r\n"):
                self._state = "head"
                self._pending = after[2:]
            else:
                raise InvalidRequest("the boundary of the form occurs inside a part", hint="choose another boundary")

    def end(self) -> None:
        """End the body.

        Raises:
            InvalidRequest: the form is incomplete.
        """
        if self._state != "end":
            raise InvalidRequest("the form ends before its last boundary", hint="send the complete form")

    def _head(self) -> Part | None:
        end = self._pending.find(b"\r\n\r\n")
        if end < 0:
            if len(self._pending) > MAX_HEAD_BYTES:
                raise InvalidRequest(f"the headers of a part are longer than {MAX_HEAD_BYTES} bytes")
            return None
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidRequest(f"the form has more than {MAX_PARTS} parts")
        head = self._pending[:end].decode("utf-8", "replace")
        self._pending = self._pending[end + 4 :]
        self._state = "body"
        found = {}
        for line in head.split("\r\n"):
            if line.lower().startswith("content-disposition:"):
                found = {name: re.sub(r"\\(.)", r"\1", value) for name, value in _PARAMETER.findall(line)}
        if "name" not in found:
            raise InvalidRequest("a part of the form has no name", hint='content-disposition: form-data; name="..."')
        return Part(found["name"], found.get("filename"))
