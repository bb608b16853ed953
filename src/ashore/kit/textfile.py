"""Reads text files of users: plain, or TOML."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

from ashore.core.bytesize import human_bytes
from ashore.core.errors import AshoreError, InvalidRequest, InvalidSpec, UnsupportedModel
from ashore.core.foreign import short_reason
from ashore.kit.folders import open_given

MOST_TEXT_BYTES: Final = 64 << 20
MOST_TOML_BYTES: Final = 16 << 20
"""Above a policy with as many dictionary words as one may have."""
_LINE: Final = re.compile(r"\(at line (\d+)")
_BARE: Final = re.compile(r"""\s*([\w.-]+)\s*=\s*([^\s"'\[{#=](?:[^"'\[{#=]*[^\s"'\[{#=])?)\s*(?:#.*)?""")
"""A key and a value that begins as none of TOML's does, or goes on as none of them."""


def read_text_file(path: Path, what: str, *, hint: str) -> str:
    """Return the text of a file in UTF-8.

    Args:
        path: Path of the file.
        what: Its name for messages, such as `the calibration text`.
        hint: Hint of the error: what to give instead.

    Raises:
        InvalidRequest: it cannot be read, is empty, is not UTF-8 text, or is far too large.
    """
    name = f"{what} {path}"
    try:
        text = _read(path, name, MOST_TEXT_BYTES, InvalidRequest, hint)
    except OSError as error:
        raise InvalidRequest(f"{name} cannot be read: {error.strerror or error}", hint="check its path") from error
    if "\0" in text:
        raise InvalidRequest(f"{name} is binary: it has a zero byte", hint=hint)
    if not text.strip():
        raise InvalidRequest(f"{name} is empty", hint=hint)
    return text


def read_model_text(path: Path) -> bytes:
    """Return a file of a model that is not weights: `config.json`, `tokenizer.json`, a chat template.

    Raises:
        UnsupportedModel: it is far too large; nothing was read. OSError: it cannot be read.
    """
    check_model_text(path.name, path.stat().st_size)
    return path.read_bytes()


def check_model_text(name: str, num_bytes: int) -> None:
    """Check the size of such a file. Raises `UnsupportedModel`."""
    if num_bytes > MOST_TEXT_BYTES:
        raise UnsupportedModel(
            f"{name} has {human_bytes(num_bytes)}; expected at most {human_bytes(MOST_TEXT_BYTES)} besides weights",
            hint="it is damaged or malicious; pull the model from another source",
        )


def read_toml(path: Path, *, hint: str = "check the path") -> dict[str, Any]:
    """Return the document in a TOML file.

    Args:
        path: Path of the file.
        hint: Hint of the error: what to give instead.

    Raises:
        InvalidSpec: it cannot be read, is far too large, or is not TOML in UTF-8; the message has the line.
    """
    return parse_toml(read_toml_text(path, hint=hint), str(path))


def read_toml_text(path: Path, *, hint: str = "check the path") -> str:
    """Return the text of a TOML file, for `parse_toml`. Raises as `read_toml` does, except for invalid TOML."""
    try:
        return _read(path, str(path), MOST_TOML_BYTES, InvalidSpec, "save it as UTF-8")
    except OSError as error:
        raise InvalidSpec(f"{path}: {error.strerror or error}", hint=hint) from error


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Return the document in `text`; `where` is its name in messages.

    Raises:
        InvalidSpec: it is not TOML, is nested too deeply, or has a number that is too long.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as fault:
        said = short_reason(fault)
        raise InvalidSpec(f"{where} is not TOML: {said}", hint=_correction(text, said)) from fault


def _correction(text: str, said: str) -> str:
    """Return a corrected line: text without quotes is by far the most frequent mistake."""
    place = _LINE.search(said)
    line = text.splitlines()[int(place[1]) - 1 :][:1] if place else []
    bare = _BARE.fullmatch(line[0][:1000]) if line else None
    if bare is None:
        return "correct that line"
    key, value = bare[1], bare[2][:100]
    if value.lower() in ("true", "false"):
        return f"write {key} = {value.lower()}"
    return f'put quotes around {value}: {key} = "{value}"'


def _read(path: Path, name: str, most: int, error: type[AshoreError], hint: str) -> str:
    with open_given(path) as file:  # a pipe has no size
        data = file.read(most + 1)
    if len(data) > most:
        raise error(f"{name} is larger than {human_bytes(most)}", hint=hint)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as fault:
        line = data.count(b"\n", 0, fault.start) + 1
        seen = f"byte {fault.start} is 0x{data[fault.start]:02x} (at line {line})"
        raise error(f"{name} is not UTF-8: {seen}", hint=hint) from fault
