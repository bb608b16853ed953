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


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where everything of one installation lies. Making the object touches no disk; `create` does."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def state_db(self) -> Path:
        return self.root / "state.db"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def backup(self) -> Path:
        """The home's record of its backup, once it has one."""
        return self.root / "backup"

    @property
    def first_key(self) -> Path:
        return self.root / "first-key"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def run_models(self) -> Path:
        return self.run / "models"

    @property
    def valkey_socket(self) -> Path:
        return self.run / "valkey.sock"

    @property
    def topology(self) -> Path:
        return self.run / "topology.json"

    @property
    def secrets_key(self) -> Path:
        """Link to the key of the state's secrets, in the supervisor's memory."""
        return self.run / "secrets-key"

    @property
    def audit_key(self) -> Path:
        """Link to the key that seals the audit keys, likewise."""
        return self.run / "audit-key"

    @property
    def fleet(self) -> Path:
        """This machine's certificate for the fleet and, where it was created, the fleet's authority."""
        return self.root / "fleet"

    @property
    def fleet_servers(self) -> Path:
        """The engine servers that joined, for the hosts of this home."""
        return self.run / "fleet.json"

    @property
    def internal_token(self) -> Path:
        return self.run / "internal-token"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def control_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def admin_socket(self) -> Path:
        """Where the control process listens for HTTP."""
        return self.run / "control.sock"

    @property
    def edge(self) -> Path:
        """Certificates of the edge."""
        return self.root / "edge"

    @property
    def sites(self) -> Path:
        """What this home is to sites, or to its centre: published files, certificates, what is trusted."""
        return self.root / "sites"

    @property
    def audit(self) -> Path:
        """Chains of records, checkpoints, the public key."""
        return self.root / "audit"

    @property
    def audit_keys(self) -> Path:
        """Keys of the audit, 0600: they are not kept beside what they vouch for."""
        return self.root / "audit-keys"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def adapters(self) -> Path:
        """LoRA adapters by name, which `[model.adapters]` may name."""
        return self.root / "adapters"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def prefixes(self) -> Path:
        """Computed beginnings of prompts, which survive a restart."""
        return self.cache / "prefixes"

    @property
    def plan(self) -> Path:
        """Results of `ashore plan calibrate`, if it was run."""
        return self.root / "plan.json"

    @property
    def restoring(self) -> Path:
        """Present while a restore into this home is unfinished."""
        return self.root / ".restoring"

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


def _text(value: str) -> str:
    return value


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
    "state_url": _text,
    "offline": _flag,
    "log_level": _level,
    "api_key": _text,
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
