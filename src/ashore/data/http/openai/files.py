"""`/v1/files`: input and results of batches. Uploads and downloads are streamed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ashore.core.errors import InvalidRequest, NotFound
from ashore.core.visible import first_hidden
from ashore.core.wholenumber import whole_number
from ashore.data.authority import STORED_REMOVE, STORED_SHOW, Principal
from ashore.data.http.exchange import JSON, Exchange
from ashore.data.http.multipart import Data, FormReader, Part, boundary_of
from ashore.data.http.openai.paging import ends_of, page_of
from ashore.data.http.stored import may, models_of, note_use, shown
from ashore.data.jobs import PIECE_BYTES, StoredFile, new_id

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

PURPOSES: Final = ("batch", "user_data", "assistants")
MAX_FIELD_BYTES: Final = 4096
FORM_BYTES: Final = 64 << 10
"""Limit of a form besides the file."""
MOST_FILES: Final = 10_000
"""Limit of a list, as at OpenAI."""
FILES_AT_ONCE: Final = 500
"""Size of a page, whatever was requested: `has_more` reports that there are others."""
SHORTEST_LIFE_S: Final = 3600
LONGEST_LIFE_S: Final = 30 * 86_400

_encode = msgspec.json.Encoder().encode


class FileOut(msgspec.Struct, frozen=True, kw_only=True):
    """One file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/files`."""

    object: Literal["list"] = "list"
    data: list[FileOut]
    has_more: bool
    first_id: str | None
    last_id: str | None


class FileDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `DELETE /v1/files/{id}`."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


async def upload(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/files`: a form with `purpose`, `file` and, optionally, `expires_after[seconds]`."""
    desk = app.desk
    reader = FormReader(boundary_of(exchange.headers.get(b"content-type", b"")))
    exchange.hold.grow(PIECE_BYTES)  # which are gathered before they are written
    taken = _Upload(app, principal)
    whole = False
    try:
        async for chunk in exchange.chunks(
            most_bytes=desk.limits.max_file_bytes + FORM_BYTES, silence_s=app.limits.body_read_timeout_s
        ):
            for event in reader.feed(chunk):
                await taken.take(event)
        reader.end()
        file = await taken.finish()
        whole = True
    finally:
        if not whole and taken.file is not None:
            gone = taken.file.file_id
            await desk.call(lambda: desk.files.delete(gone))
    await exchange.respond_json(file_out(file))


class _Upload:
    """The form so far: the file is streamed to the store, the other fields are short and held."""

    def __init__(self, app: HttpApp, principal: Principal) -> None:
        self._desk = app.desk
        self._principal = principal
        self._fields: dict[str, bytes] = {}
        self._part = Part("", None)
        self._pending = bytearray()
        self._number = 0
        self._num_bytes = 0
        self.file: StoredFile | None = None

    async def take(self, event: Part | Data) -> None:
        if isinstance(event, Part):
            self._part = event
            if event.name == "file":
                await self._begin(event)
            else:
                self._fields[event.name] = b""
        elif self._part.name == "file":
            await self._write(event.piece)
        else:
            kept = self._fields[self._part.name] + event.piece
            if len(kept) > MAX_FIELD_BYTES:
                raise InvalidRequest(f"the form field {self._part.name[:80]!r} is too long", param=self._part.name[:80])
            self._fields[self._part.name] = kept

    async def finish(self) -> StoredFile:
        """Finish the file.

        Raises:
            InvalidRequest: a field is missing or unknown.
            BudgetExceeded: the tenant stores too much; the file is dropped.
        """
        if self.file is None:
            raise InvalidRequest("the form has no file", param="file")
        for name in self._fields:
            if name not in ("purpose", "expires_after[anchor]", "expires_after[seconds]"):
                raise InvalidRequest(
                    f"unknown form field {name[:80]!r}",
                    hint="known fields: file, purpose, expires_after",
                    param=name[:80],
                )
        purpose = self._fields.get("purpose", b"").decode("utf-8", "replace")
        if purpose not in PURPOSES:
            raise InvalidRequest(f"purpose is {purpose[:40]!r}; expected {' or '.join(PURPOSES)}", param="purpose")
        await self._flush(everything=True)
        done = replace(
            self.file,
            purpose=purpose,
            num_bytes=self._num_bytes,
            expires_ms=_expiry(self._fields, self.file.created_ms),
        )
        kept = await self._desk.call(
            lambda: self._desk.files.complete(done, most_bytes=self._desk.quotas.most("stored_bytes", done.tenant))
        )
        if kept is None:
            raise NotFound("the file was deleted during the upload", hint="upload it again")
        return kept

    async def _begin(self, part: Part) -> None:
        if self.file is not None:
            raise InvalidRequest("the form has more than one file", hint="upload one file per request", param="file")
        self.file = StoredFile(
            file_id=new_id("file-"),
            tenant=self._principal.tenant,
            account=self._principal.id,
            models=models_of(self._principal),
            filename="".join(char for char in part.filename or "" if not first_hidden(char))[:256] or "upload",
            purpose="",
            num_bytes=0,
            created_ms=self._desk.queue.now_ms(),
            expires_ms=None,
            complete=False,
        )
        fresh = self.file
        await self._desk.call(lambda: self._desk.files.create(fresh))

    async def _write(self, piece: bytes) -> None:
        self._pending += piece
        self._num_bytes += len(piece)
        await self._flush(everything=False)

    async def _flush(self, *, everything: bool) -> None:
        assert self.file is not None
        most = self._desk.quotas.most("stored_bytes", self.file.tenant)
        while len(self._pending) >= PIECE_BYTES or (everything and self._pending):
            piece, number, file_id = bytes(self._pending[:PIECE_BYTES]), self._number, self.file.file_id
            del self._pending[:PIECE_BYTES]
            self._number += 1
            await self._desk.call(partial(self._desk.files.append, file_id, number, piece, most_bytes=most))


async def list_files(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/files`."""
    desk = app.desk
    page = page_of(exchange, default=MOST_FILES, most=MOST_FILES, extra=("purpose",))
    after = None
    if page.after:
        last = await find_file(app, None, page.after, principal)
        after = (last.created_ms, last.file_id)

    def write(files: list[StoredFile], has_more: bool) -> bytes:
        data = [file_out(file) for file in files]
        return _encode(FileList(data=data, has_more=has_more, **ends_of([one.id for one in data])))

    answer = await shown(
        app,
        principal,
        lambda account, behind, limit: desk.files.select(
            tenant=principal.tenant,
            account=account,
            purpose=page.query.get("purpose"),
            after=behind,
            limit=limit,
            oldest_first=page.oldest_first,
        ),
        lambda file: (file.created_ms, file.file_id),
        after,
        min(page.limit, FILES_AT_ONCE),
        write,
    )
    await exchange.respond(200, [JSON], answer)


async def retrieve(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/files/{id}`."""
    file = await find_file(app, exchange, exchange.argument, principal)
    await exchange.respond_json(file_out(file))


async def content(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/files/{id}/content`: the bytes, in pieces."""
    desk = app.desk
    file = await find_file(app, exchange, exchange.argument, principal)
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % file.num_bytes)]
    exchange.hold.grow(min(file.num_bytes, PIECE_BYTES))
    number, piece = 0, await desk.call(lambda: desk.files.piece(file.file_id, 0))
    await exchange.start_download(headers)
    while piece is not None:
        await exchange.write(piece)
        number += 1
        piece = await desk.call(lambda n=number: desk.files.piece(file.file_id, n))  # type: ignore[misc]
    await exchange.end_stream()


async def delete(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`DELETE /v1/files/{id}`."""
    file = await find_file(app, exchange, exchange.argument, principal, action=STORED_REMOVE)
    await app.desk.call(lambda: app.desk.files.delete(file.file_id))
    await exchange.respond_json(FileDeleted(id=file.file_id))


async def find_file(
    app: HttpApp, exchange: Exchange | None, file_id: str, principal: Principal, *, action: str = STORED_SHOW
) -> StoredFile:
    """Return a file on which the principal may do `action`. `exchange`: as in `note_use`.

    Raises:
        NotFound: there is none, or it is not theirs: the answer is the same.
        AuditUnavailable: it is another's, and nothing can be recorded.
    """
    file = await app.desk.call(lambda: app.desk.files.get(file_id))
    if file is None or not may(app.authority, principal, action, file):
        raise NotFound(f"there is no file {file_id[:80]!r}", hint="it may have expired")
    await note_use(app, exchange, principal, action, file, file=file.file_id)
    return file


def file_out(file: StoredFile) -> FileOut:
    """Return a file in OpenAI's form."""
    return FileOut(
        id=file.file_id,
        bytes=file.num_bytes,
        created_at=file.created_ms // 1000,
        expires_at=None if file.expires_ms is None else file.expires_ms // 1000,
        filename=file.filename,
        purpose=file.purpose,
    )


def _expiry(fields: Mapping[str, bytes], created_ms: int) -> int | None:
    given, anchor = fields.get("expires_after[seconds]"), fields.get("expires_after[anchor]", b"created_at")
    if anchor != b"created_at":
        raise InvalidRequest(
            f"expires_after[anchor] is {anchor[:40].decode('utf-8', 'replace')!r}; expected 'created_at'",
            param="expires_after[anchor]",
        )
    if given is None and "expires_after[anchor]" not in fields:
        return None
    life_s = None if given is None else whole_number(given)
    if life_s is None or not SHORTEST_LIFE_S <= life_s <= LONGEST_LIFE_S:
        raise InvalidRequest(
            f"expires_after[seconds] must be {SHORTEST_LIFE_S} to {LONGEST_LIFE_S}", param="expires_after[seconds]"
        )
    return created_ms + life_s * 1000
