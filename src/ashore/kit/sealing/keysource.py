"""Key sources as one line of text: `keyring:FILE`, `passphrase:FILE`, `transit:URL?token_file=FILE`.

The line holds no secret, so it may stand in ashore.toml, in the environment and in messages.
"""

from __future__ import annotations

import getpass
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from ashore.core.clock import Clock
from ashore.core.errors import InvalidSpec, SealingKeyMissing
from ashore.core.foreign import foreign_errors
from ashore.core.nearest import did_you_mean
from ashore.kit.sealing.keyfile import read_secret_file
from ashore.kit.sealing.keyring import KeyringKeeper
from ashore.kit.sealing.passphrase import PassphraseKeeper
from ashore.kit.sealing.ports import KeyKeeper
from ashore.kit.sealing.transit import TransitKeeper

KINDS: Final = ("keyring", "passphrase", "transit")
FORMS: Final = "keyring:FILE, passphrase:FILE, or transit:https://HOST/v1/transit/keys/NAME?token_file=FILE"
_OPTIONS: Final = ("token_file", "ca_file", "namespace")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """A key source, taken apart."""

    kind: str
    path: str = ""
    """File of a keyring or a passphrase; empty: the passphrase is asked for at the terminal."""
    url: str = ""
    """Address of the transit engine, without the key."""
    key: str = ""
    token_file: str = ""
    ca_file: str = ""
    namespace: str = ""


def parse_key_source(text: str, *, folder: Path | None = None, where: str = "the key source") -> KeySource:
    """Return the parts of a key source. Reads no file.

    Args:
        text: The line.
        folder: Where relative paths begin; default: the folder of this process.
        where: Names the place of the line in messages.

    Raises:
        InvalidSpec: it has none of the forms.
    """
    kind, colon, rest = text.partition(":")
    if kind not in KINDS or not colon:
        raise InvalidSpec(f"{where} is {text[:80]!r}", hint=f"expected {FORMS}; {did_you_mean(kind, KINDS)}")
    if kind != "transit":
        if kind == "keyring" and not rest:
            raise InvalidSpec(f"{where} has no file", hint="expected keyring:FILE")
        return KeySource(kind=kind, path=_absolute(rest, folder) if rest else "")
    return _transit(rest, folder, where)


def format_key_source(source: KeySource) -> str:
    """Return the line of a key source, its paths absolute."""
    if source.kind != "transit":
        return f"{source.kind}:{source.path}"
    options = [(n, getattr(source, n)) for n in _OPTIONS if getattr(source, n)]
    return f"transit:{source.url}/keys/{source.key}?" + "&".join(f"{n}={v}" for n, v in options)


def open_keeper(source: KeySource, clock: Clock) -> KeyKeeper:
    """Return the keeper behind a key source. Reads nothing yet."""
    match source.kind:
        case "keyring":
            return KeyringKeeper(Path(source.path), clock)
        case "passphrase" if source.path:
            path = Path(source.path)
            return PassphraseKeeper(
                lambda: read_secret_file(path, what="the passphrase file").decode("utf-8", "replace"), place=str(path)
            )
        case "passphrase":
            return PassphraseKeeper(_ask, place="the terminal")
        case _:
            return TransitKeeper(
                source.url,
                source.key,
                token_file=Path(source.token_file),
                ca_file=source.ca_file,
                namespace=source.namespace,
            )


def no_key_source() -> KeyKeeper:
    """Placeholder without a key source. Raises `SealingKeyMissing`."""
    raise SealingKeyMissing(
        "no key source is configured, but sealed data needs one",
        hint=f'set [sealing] key = "…" in ashore.toml, or ASHORE_SEALING_KEY: {FORMS}',
    )


def _transit(rest: str, folder: Path | None, where: str) -> KeySource:
    with foreign_errors(where, InvalidSpec, hint=f"expected {FORMS}"):
        parts = urlsplit(rest)
        host = parts.hostname or ""
        _ = parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    engine, slash, key = parts.path.rpartition("/keys/")
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise InvalidSpec(f"{where} has an unknown option {unknown[0]!r}", hint=did_you_mean(unknown[0], _OPTIONS))
    if not slash or not key or "/" in key or not host or parts.username or parts.password or parts.fragment:
        raise InvalidSpec(f"{where} does not name a key of a transit engine", hint=f"expected {FORMS}")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise InvalidSpec(f"{where} is not https: a data key would cross the network unencrypted", hint="use https")
    if not options.get("token_file"):
        raise InvalidSpec(f"{where} has no token_file", hint="add ?token_file=FILE, a file of mode 0600")
    return KeySource(
        kind="transit",
        url=urlunsplit((parts.scheme, parts.netloc, engine, "", "")),
        key=unquote(key),
        token_file=_absolute(options["token_file"], folder),
        ca_file=_absolute(options["ca_file"], folder) if options.get("ca_file") else "",
        namespace=options.get("namespace", ""),
    )


def _absolute(path: str, folder: Path | None) -> str:
    found = Path(path).expanduser()
    return str(found if found.is_absolute() else (folder or Path.cwd()) / found)


def _ask() -> str:
    if not sys.stdin.isatty():
        raise SealingKeyMissing(
            "cannot ask for the passphrase, because there is no terminal",
            hint="put it into a file of mode 0600, and use passphrase:FILE",
        )
    return getpass.getpass("passphrase of the sealed models: ")
