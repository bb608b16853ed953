"""One file over HTTP to disk: resumed after interruptions, verified, and moved into place atomically."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ashore.core.errors import CorruptBlob, RemoteRefused, SourceUnreachable
from ashore.kit.folders import make_folder
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.layout import fsync_file
from ashore.kit.store.progress import Progress

if TYPE_CHECKING:
    import httpx

MAX_CAUSES = 20
"""Layers of a library's error that are looked at."""
MAX_REASON_CHARS = 200
ALTERED_HINT = "run the command again; if this repeats, the mirror or a proxy alters files"
SLOW_S = 300.0
SLOW_BYTES = 300 << 10
"""A source that brings fewer bytes in this time would hold a job for ever, and counts as gone."""
MAX_FRUITLESS_TRIES = 4
"""Tries in a row that brought less than `LEAST_BYTES`, after which the source counts as gone."""
LEAST_BYTES = 4 << 10


def download(
    client: httpx.Client,
    url: str,
    target: Path,
    *,
    stage: str,
    progress: Progress,
    num_bytes: int = 0,
    sha256: str = "",
    headers: Mapping[str, str] | None = None,
    mirror_hint: str = "",
    pause_s: float = 0.5,
) -> None:
    """Download `url` to `target` through `target.part`, resuming from its content.

    A complete `target` is left unchanged. An interrupted download resumes with a range request as long as each try
    makes progress.

    Raises:
        SourceUnreachable: no route, or the source went away for good.
        RemoteRefused: the server answered with a refusal.
        CorruptBlob: the hash of the complete file is wrong; the part is deleted, so that the next try restarts.
        DiskFull: no room; the part stays for the next try.
    """
    import httpx

    if target.exists():
        return
    part = target.with_name(target.name + ".part")
    make_folder(part.parent)
    fruitless, restarted = 0, False
    while True:
        have = part.stat().st_size if part.exists() else 0
        if num_bytes and have >= num_bytes:
            break
        try:
            whole = _one_try(client, url, part, have, num_bytes, stage, progress, headers or {})
        except httpx.RequestError as error:
            gained = (part.stat().st_size if part.exists() else 0) >= have + LEAST_BYTES
            fruitless = 0 if gained else fruitless + 1
            if fruitless >= MAX_FRUITLESS_TRIES or (isinstance(error, httpx.ConnectError) and fruitless > 1):
                raise unreachable(url, error, hint=mirror_hint) from error
            time.sleep(0 if gained else pause_s)
            continue
        if whole:
            break
        if restarted:
            raise refused(url, 416)
        restarted = True
    _accept(part, target, num_bytes, sha256, url)


def _one_try(
    client: httpx.Client,
    url: str,
    part: Path,
    have: int,
    num_bytes: int,
    stage: str,
    progress: Progress,
    headers: Mapping[str, str],
) -> bool:
    """Read once; return whether the server indicated the end. False: it has less than the part, which is deleted."""
    import httpx

    asked = dict(headers)
    if have:
        asked["Range"] = f"bytes={have}-"
    with client.stream("GET", url, headers=asked) as answer:
        if answer.status_code == 416 and have:
            part.unlink(missing_ok=True)
            return False
        if answer.status_code >= 400:
            raise refused(url, answer.status_code)
        resumed = answer.status_code == 206
        done = have if resumed else 0
        length = int(answer.headers.get("content-length", 0))
        total, too_long = num_bytes or (done + length if length else 0), False
        looked_s, then = time.monotonic(), done
        with disk_errors(part), part.open("ab" if resumed else "wb") as file:
            # as it arrives: a larger chunk size would lose buffered data at an interruption
            for chunk in answer.iter_raw():
                done += len(chunk)
                if num_bytes and done > num_bytes:  # never write more than the announced size
                    too_long = True
                    break
                file.write(chunk)
                progress(stage, done, total)
                if (now_s := time.monotonic()) - looked_s > SLOW_S:
                    if done - then < SLOW_BYTES:
                        raise SourceUnreachable(
                            f"{answer.url.host} sent {done - then} bytes in {SLOW_S:.0f} s",
                            hint="try again later; what came so far is kept",
                        )
                    looked_s, then = now_s, done
    if too_long:
        part.unlink()
        raise CorruptBlob(f"{url} returned more than the {num_bytes} bytes that were expected", hint=ALTERED_HINT)
    if total and done < total:
        raise httpx.ReadError(f"the connection ended after {done} of {total} bytes")
    return True


def _accept(part: Path, target: Path, num_bytes: int, sha256: str, url: str) -> None:
    size = part.stat().st_size
    if num_bytes and size != num_bytes:
        part.unlink()
        raise CorruptBlob(f"{url} returned {size} bytes, expected {num_bytes}", hint=ALTERED_HINT)
    if sha256:
        with part.open("rb") as file:
            seen = hashlib.file_digest(file, "sha256").hexdigest()
        if seen != sha256:
            part.unlink()
            raise CorruptBlob(f"{url} has SHA-256 {seen}, expected {sha256}", hint=ALTERED_HINT)
    with disk_errors(target):
        fsync_file(part)
        part.replace(target)


def unreachable(url: str, error: Exception, *, hint: str) -> SourceUnreachable:
    """Return the error that names the host of `url` that could not be reached."""
    import httpx

    return cannot_reach(httpx.URL(url).host or url, error, hint=hint)


def cannot_reach(host: str, error: Exception, *, hint: str) -> SourceUnreachable:
    """Return the error for an unreachable host, with the system's error instead of each library layer's."""
    return SourceUnreachable(f"cannot reach {host}: {_root_of(error)}", hint=hint)


def _root_of(error: BaseException) -> str:
    """Return the system's own error of a failed connection: the innermost message, in one line."""
    found = str(error)
    inner: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if inner is None:
            break
        if isinstance(inner, OSError) and inner.strerror:
            found = inner.strerror
        inner = inner.__cause__ or inner.__context__
    return (found.strip().splitlines() or [type(error).__name__])[0][:MAX_REASON_CHARS]


def refused(url: str, status: int) -> RemoteRefused:
    """Return the error for an HTTP refusal, with the next action for the usual ones."""
    import httpx

    hints = {
        401: "the server requires a login; set the token for that source",
        403: "this account has no access; accept the licence on the server or use another token",
        404: "check the name and the version",
        429: "the server limits the rate of requests; try again later",
    }
    return RemoteRefused(
        f"{httpx.URL(url).host} returned status {status} for {url}", hint=hints.get(status, "try again later")
    )
