"""Reads a folder or a zip of documents into sections and sentences. Nothing in a document is run or obeyed."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath

MAX_FILE_BYTES = 2 << 20
MAX_ALL_BYTES = 64 << 20
MAX_FILES = 2_000
KINDS = {".md", ".txt", ".html", ".htm", ".csv"}

INSTRUCTION = re.compile(
    r"(ignore|disregard|forget)\b.{0,40}\b(instruction|prompt|document|rule)|system prompt|<\|im_(start|end)\|>|"
    r"you are (now )?an? (ai|assistant|language model)|"
    r"(assistant|model|chatbot|ai)\b.{0,20}\b(must|should|shall) (answer|say|reply|tell|send|open)|"
    r"(忽略|无视|忘记).{0,12}(指令|提示|文件|规则)|系统提示|你(现在)?是.{0,6}(助手|模型)|"
    r"(助手|模型).{0,6}(必须|应当|应该).{0,4}(回答|回复|告诉)",
    re.IGNORECASE,
)
"""Sentences that speak to a model instead of a customer. A list finds what it knows; see the README."""


class BadDocument(ValueError):
    """A document that is not read. The text names the file, what was seen and what was expected."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a document: what a search returns."""

    file: str
    key: str
    """The anchor of its heading, or the first cell of a row."""
    heading: str
    topic: str
    """Heading of the document."""
    sentences: tuple[str, ...]
    lang: str


def read_documents(place: Path) -> tuple[list[Section], list[tuple[str, str]]]:
    """Return the sections of all documents, and the sentences held back with their file.

    Args:
        place: A folder, or a zip of one.

    Raises:
        BadDocument: a file is too large, is not text, or a zip holds more than it may.
    """
    sections: list[Section] = []
    held: list[tuple[str, str]] = []
    for name, data in _files(place):
        try:
            text = unicodedata.normalize("NFC", data.decode("utf-8-sig"))
        except UnicodeDecodeError as fault:
            raise BadDocument(f"{name} is not UTF-8 text (byte {fault.start}); save it as UTF-8") from fault
        text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cn"))
        for section in _sections(name, text):
            fit = tuple(one for one in section.sentences if not INSTRUCTION.search(one))
            held += [(name, one) for one in section.sentences if one not in fit]
            if fit:
                sections.append(
                    Section(name, section.key, section.heading, section.topic, fit, language(section.heading + fit[0]))
                )
    if not sections:
        raise BadDocument(f"{place} has no text in files that end with {', '.join(sorted(KINDS))}")
    return sections, held


def language(text: str) -> str:
    """Return `zh` for a text with Chinese characters, else `en`."""
    return "zh" if re.search(r"[\u4e00-\u9fff]", text) else "en"


def sentences_of(text: str) -> tuple[str, ...]:
    """Split text at the ends of its sentences; a point between digits is no end."""
    flat = re.sub(r"\s+", " ", text)
    return tuple(one.strip() for one in re.split(r"(?<=[.!?])\s+(?=[^a-z\d])|(?<=[。！？])", flat) if one.strip())


def _files(place: Path) -> Iterator[tuple[str, bytes]]:
    if place.is_dir():
        files = sorted(one for one in place.rglob("*") if one.suffix.lower() in KINDS and one.is_file())
        sizes = [(str(one.relative_to(place)), one.stat().st_size) for one in files]
        _check(str(place), sizes)
        for (name, _), one in zip(sizes, files, strict=True):
            yield name, one.read_bytes()
        return
    try:
        with zipfile.ZipFile(place) as packed:
            entries = [one for one in packed.infolist() if PurePosixPath(one.filename).suffix.lower() in KINDS]
            _check(place.name, [(one.filename, one.file_size) for one in entries])
            for entry in entries:
                with packed.open(entry) as opened:  # the directory of a zip may lie: count what really comes out
                    data = opened.read(MAX_FILE_BYTES + 1)
                if len(data) > MAX_FILE_BYTES:
                    raise BadDocument(f"{entry.filename} in {place.name} unpacks to more than {MAX_FILE_BYTES:,} bytes")
                yield entry.filename, data
    except (zipfile.BadZipFile, zipfile.LargeZipFile, RuntimeError, NotImplementedError, OSError) as fault:
        raise BadDocument(f"{place} is neither a folder nor a readable zip: {fault}") from fault


def _check(place: str, sizes: list[tuple[str, int]]) -> None:
    for name, size in sizes:
        if size > MAX_FILE_BYTES:
            raise BadDocument(f"{name} in {place} has {size:,} bytes, at most {MAX_FILE_BYTES:,} are read; split it")
    if len(sizes) > MAX_FILES or sum(size for _, size in sizes) > MAX_ALL_BYTES:
        raise BadDocument(f"{place} has more than {MAX_FILES:,} documents or {MAX_ALL_BYTES:,} bytes; split it")


def _sections(name: str, text: str) -> Iterator[Section]:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".csv":
        try:
            rows = list(csv.reader(io.StringIO(text), strict=True))
        except csv.Error as fault:
            raise BadDocument(f"{name} is not a table of comma-separated values: {fault}") from fault
        for row in rows[1:]:
            if cells := [cell.strip() for cell in row if cell.strip()]:
                colon, comma = ("：", "，") if language(cells[0]) == "zh" else (": ", ", ")
                line = cells[0] + colon + comma.join(cells[1:])
                yield Section(name, cells[0], cells[0], PurePosixPath(name).stem, (line,), "")
        return
    if suffix in (".html", ".htm"):
        page = _Page()
        page.feed(text)
        page.close()
        text = "".join(page.found)
    topic = re.split("[:：]", line[1])[-1].strip() if (line := re.search(r"^# (.+)", text, re.MULTILINE)) else name
    parts = re.split(r"^## (.+)\n", re.sub(r"^# .+", "", text, flags=re.MULTILINE), flags=re.MULTILINE)
    for heading, body in [(topic, parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]:
        heading = heading.strip()
        anchor = re.search(r"\{#([\w-]+)\}$", heading)
        title = heading[: anchor.start()].rstrip() if anchor else heading
        if found := sentences_of(body):
            yield Section(name, anchor[1] if anchor else title, title, topic, found, "")


class _Page(HTMLParser):
    """Keeps the visible text of a page, with its headings as Markdown."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style", "template")
        self.found.append({"h1": "\n# ", "h2": "\n## ", "h3": "\n## ", "p": "\n", "li": "\n", "br": "\n"}.get(tag, ""))

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style", "template") and self._hidden > 0
        self.found.append("\n" if tag in ("h1", "h2", "h3", "p", "li", "title") else "")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.found.append(re.sub(r"\s+", " ", data))
