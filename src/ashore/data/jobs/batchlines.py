"""Lines of a batch's input: read one at a time, and validated with their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ashore.core.errors import InvalidRequest
from ashore.kit.decode import UNDECODABLE, check_parts

ENDPOINTS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
MAX_LINES: Final = 50_000
"""As OpenAI's."""
MAX_LINE_BYTES: Final = 8 << 20
MAX_CUSTOM_ID: Final = 256
MAX_MESSAGE_CHARS: Final = 300
"""A message may quote what the line says, which may be long."""
MOST_ERRORS: Final = 100
"""After so many the rest of the file is not read."""


class LineIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the input."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Body(msgspec.Struct):
    model: Any = None
    stream: Any = None
    background: Any = None


class BatchError(msgspec.Struct, frozen=True, kw_only=True):
    """An error in a line, or in the file."""

    code: str
    message: str
    line: int | None = None
    """From 1."""
    param: str | None = None


@dataclass(frozen=True, slots=True)
class _Fault(Exception):
    code: str
    message: str
    param: str | None = None


_line = msgspec.json.Decoder(LineIn)
_body = msgspec.json.Decoder(_Body)


def split_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file, without their ends; a last one without an end counts.

    Raises:
        InvalidRequest: a line is longer than `MAX_LINE_BYTES`.
    """
    rest = b""
    for piece in pieces:
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        yield from lines
        if len(rest) > MAX_LINE_BYTES:
            raise InvalidRequest(f"a line is longer than {MAX_LINE_BYTES:,} bytes", hint="write one request per line")
    if rest:
        yield rest


def requests_of(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the number (from 1) and bytes of every line that is not blank."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line


def check_line(raw: bytes, endpoint: str) -> LineIn:
    """Return a line that can be run.

    Raises:
        _Fault: it cannot, with the reason. `check_lines` adds the line number.
    """
    try:
        check_parts(raw)
        line = _line.decode(raw)
    except InvalidRequest as fault:
        raise _Fault("invalid_json_line", fault.message) from fault
    except msgspec.ValidationError as fault:
        raise _Fault("invalid_line", str(fault).replace("`", "'")) from fault
    except UNDECODABLE as fault:
        raise _Fault("invalid_json_line", f"the line is not a JSON object: {fault}") from fault
    if not 0 < len(line.custom_id) <= MAX_CUSTOM_ID:
        raise _Fault("invalid_custom_id", f"custom_id must have 1 to {MAX_CUSTOM_ID} characters", "custom_id")
    if line.method != "POST":
        raise _Fault("invalid_method", f"method is {line.method[:20]!r}; expected 'POST'", "method")
    if line.url != endpoint:
        raise _Fault("mismatched_url", f"url is {line.url[:80]!r}; the batch is for {endpoint!r}", "url")
    try:
        body = _body.decode(line.body)
    except UNDECODABLE as fault:
        raise _Fault("invalid_body", "body must be a JSON object in UTF-8", "body") from fault
    if not isinstance(body.model, str) or not body.model:
        raise _Fault("missing_model", "body has no model", "body.model")
    if body.stream or body.background:
        param = "body.stream" if body.stream else "body.background"
        raise _Fault("invalid_body", f"{param} cannot be used in a batch", param)
    return line


def check_lines(lines: Iterable[bytes], endpoint: str) -> tuple[int, list[BatchError]]:
    """Return the number of requests in a file and its errors, each with its line."""
    errors: list[BatchError] = []
    seen: set[bytes] = set()
    total = 0
    try:
        for number, raw in requests_of(lines):
            total += 1
            if total > MAX_LINES or len(errors) >= MOST_ERRORS:
                break
            try:
                custom_id = check_line(raw, endpoint).custom_id.encode()
                if custom_id in seen:
                    raise _Fault("duplicate_custom_id", "custom_id was used by an earlier line", "custom_id")
                seen.add(custom_id)
            except _Fault as fault:
                message = fault.message[:MAX_MESSAGE_CHARS]
                errors.append(BatchError(code=fault.code, message=message, line=number, param=fault.param))
    except InvalidRequest as fault:
        errors.append(BatchError(code="line_too_long", message=fault.message, line=total + 1))
    if not total and not errors:
        errors.append(BatchError(code="empty_file", message="the file has no requests"))
    if total > MAX_LINES:
        errors.append(BatchError(code="too_many_requests", message=f"a batch has at most {MAX_LINES:,} requests"))
    return total, errors
