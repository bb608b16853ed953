"""How this process runs: few values, typed, read once from `ASHORE_*` and from `[settings]` of ashore.toml.

The environment wins over the file. A malformed value is an error that names it; an unknown `ASHORE_*` variable causes a
warning with the nearest known name, because a mistyped one would otherwise go unnoticed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, Literal, cast, get_args

from ashore.core.errors import HomeBusy, InvalidRequest, InvalidSpec
from ashore.core.foreign import foreign_errors
from ashore.core.nearest import did_you_mean
from ashore.core.timespan import parse_seconds
from ashore.kit.folders import make_folder

LogLevel = Literal["debug", "info", "warning", "error"]

IGNORED_PREFIXES = ("ASHORE_TEST_", "ASHORE_CHILD_")
"""Variables of the test suite, and those that the supervisor gives its children."""


SITES_AUTHORITY: Final = "sites/authority.pem"
"""In the home of a centre: what signs certificates of sites. Once it is there, the edge asks clients for one."""


class _Below:
    """A path below the root of a home."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, home: Home, kind: type[Home]) -> Path:
        return home.root.joinpath(*self._parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where everything of one installation lies. Making the object touches no disk; `create` does."""

    root: Path

    store = _Below("store")
    state_db = _Below("state.db")
    snapshots = _Below("snapshots")
    backup = _Below("backup")
    """The home's record of its backup, once it has one."""
    first_key = _Below("first-key")
    run = _Below("run")
    run_models = _Below("run", "models")
    valkey_socket = _Below("run", "valkey.sock")
    topology = _Below("run", "topology.json")
    secrets_key = _Below("run", "secrets-key")
    """Link to the key of the state's secrets, in the supervisor's memory."""
    audit_key = _Below("run", "audit-key")
    """Link to the key that seals the audit keys, likewise."""
    fleet = _Below("fleet")
    """This machine's certificate for the fleet and, where it was created, the fleet's authority."""
    fleet_servers = _Below("run", "fleet.json")
    """The engine servers that joined, for the hosts of this home."""
    internal_token = _Below("run", "internal-token")
    lock = _Below("lock")
    control_socket = _Below("run", "supervisor.sock")
    admin_socket = _Below("run", "control.sock")
    """Where the control process listens for HTTP."""
    edge = _Below("edge")
    """Certificates of the edge."""
    sites = _Below("sites")
    """What this home is to sites, or to its centre: published files, certificates, what is trusted."""
    audit = _Below("audit")
    """Chains of records, checkpoints, the public key."""
    audit_keys = _Below("audit-keys")
    """Keys of the audit, 0600: they are not kept beside what they vouch for."""
    logs = _Below("logs")
    adapters = _Below("adapters")
    """LoRA adapters by name, which `[model.adapters]` may name."""
    cache = _Below("cache")
    prefixes = _Below("cache", "prefixes")
    """Computed beginnings of prompts, which survive a restart."""
    plan = _Below("plan.json")
    """Results of `ashore plan calibrate`, if it was run."""
    restoring = _Below(".restoring")
    """Present while a restore into this home is unfinished."""

    def refuse_half_restored(self) -> None:
        """Check that no interrupted restore has left this home half complete.

        Raises:
            HomeBusy: one was.
        """
        if self.restoring.exists():
            raise HomeBusy(
                f"a restore into the home {self.root} is not finished",
                hint="give that `ashore backup restore` again: it goes on; or delete the home",
            )

    def create(self) -> None:
        """Create the folders, readable only by their owner. May be called twice.

        Raises:
            HomeBusy: as `refuse_half_restored`.
        """
        self.refuse_half_restored()
        for folder in (self.root, self.store, self.run, self.run_models, self.logs, self.cache):
            make_folder(folder, mode=0o700)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this process runs."""

    home: Home
    """Where everything of one installation lies."""
    state_url: str = ""
    """SQL database of what must not be lost; empty: SQLite in the home."""
    offline: bool = False
    """Never call a model hub; what is not in the store is an error."""
    log_level: LogLevel = "info"
    """How much the processes log."""
    api_key: str = field(default="", repr=False)
    """Key that commands send to the API; empty: the one in `first-key`."""
    start_timeout_s: float = 300.0
    """Longest wait for a model to load before `up` gives up."""
    drain_timeout_s: float = 30.0
    """Longest wait for running answers when the server stops."""
    step_timeout_s: float = 300.0
    """Longest that one step of an engine may take; one that takes longer hangs, and its host is started again."""
    hf_endpoint: str = ""
    """Base URL of a mirror of the Hugging Face hub; empty: the hub itself."""
    ms_endpoint: str = ""
    """Base URL of a mirror of the ModelScope hub; empty: the hub itself."""
    sealing_key: str = ""
    """Where the keys of sealed models are: `keyring:FILE`, `passphrase:FILE`, `transit:URL`; empty: nowhere."""
    sealing_state: bool = True
    """Seal the secrets of the state and of the audit too, where `sealing_key` is set."""
    warnings: tuple[str, ...] = ()
    """What was odd about the environment; the command line prints these once."""

    def as_environment(self) -> dict[str, str]:
        """Return the variables with which another process of this home reads the same settings. The key that commands
        send to the API is not among them."""
        found: dict[str, str] = {"ASHORE_HOME": str(self.home.root)}
        for name in READERS:
            value = getattr(self, name)
            if name not in ("home", "api_key") and value != "":
                found[f"ASHORE_{name.upper()}"] = str(int(value)) if isinstance(value, bool) else str(value)
        return found


def _flag(value: str) -> bool:
    word = value.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("expected 1 or 0")


def _seconds(value: str) -> float:
    try:
        seconds = parse_seconds(value) if value[-1:].isalpha() else float(value)
    except (InvalidRequest, ValueError):
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise ValueError("expected seconds between 0 and 86400, or a duration: 90s, 15m, 2h")
    return seconds


def _level(value: str) -> LogLevel:
    word = value.strip().lower()
    if word not in get_args(LogLevel):
        raise ValueError("expected one of " + ", ".join(get_args(LogLevel)))
    return cast(LogLevel, word)


def _endpoint(value: str) -> str:
    if value and not value.startswith(("http://", "https://")):
        raise ValueError("expected an address that starts with http:// or https://")
    return value.rstrip("/")


def _key_source(value: str) -> str:
    from ashore.kit.sealing.keysource import format_key_source, parse_key_source

    return format_key_source(parse_key_source(value)) if value else ""


def _home(value: str) -> Home:
    return Home(root=Path(value).expanduser().absolute())


READERS: Mapping[str, Callable[[str], object]] = {
    "home": _home,
    "state_url": str,
    "offline": _flag,
    "log_level": _level,
    "api_key": str,
    "start_timeout_s": _seconds,
    "drain_timeout_s": _seconds,
    "step_timeout_s": _seconds,
    "hf_endpoint": _endpoint,
    "ms_endpoint": _endpoint,
    "sealing_key": _key_source,
    "sealing_state": _flag,
}


def read_settings(environ: Mapping[str, str] | None = None, table: Mapping[str, object] | None = None) -> Settings:
    """Return the settings of this process. Reads no file.

    Args:
        environ: Environment; default: that of the process.
        table: `[settings]` of ashore.toml; weaker than the environment.

    Raises:
        InvalidSpec: a value is malformed, or the table has an unknown key.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    for key, raw in (table or {}).items():
        if key not in READERS or key == "home":
            raise InvalidSpec(f"[settings] has an unknown key {key!r}", hint=did_you_mean(key, set(READERS) - {"home"}))
        text = str(raw).lower() if isinstance(raw, bool) else str(raw)
        values[key] = _read(READERS[key], text, f"[settings] {key}")
    warnings = []
    for name in sorted(environ):
        if not name.startswith("ASHORE_") or name.startswith(IGNORED_PREFIXES):
            continue
        key = name.removeprefix("ASHORE_").lower()
        if key in READERS:
            values[key] = _read(READERS[key], environ[name], name)
        else:
            known = {"ASHORE_" + k.upper() for k in READERS}
            warnings.append(f"{name} is set, and ashore knows no such setting: {did_you_mean(name, known)}")
    values.setdefault("home", _home(environ.get("HOME", "~") + "/.ashore"))
    assert set(values) <= {f.name for f in fields(Settings)}
    return Settings(**values, warnings=tuple(warnings))  # type: ignore[arg-type]


def _read(reader: Callable[[str], object], text: str, where: str) -> object:
    with foreign_errors(f"{where}={text!r} is malformed", InvalidSpec, hint=f"correct or remove {where}"):
        return reader(text)
