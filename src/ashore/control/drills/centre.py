"""The centre of a twin that is a branch office: a server of its own, reached over a line, with a made-up model."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ashore.control.drills.madeup import make_model
from ashore.core.errors import EngineFailed
from ashore.kit.folders import make_folder
from ashore.kit.processes import python_command

SITE: Final = "twin"
ALIAS: Final = "branch"
"""What the centre has the site serve; a model without the centre answers before."""
VERSION: Final = "version-1"
START_S: Final = 90.0
COMMAND_S: Final = 120.0
OFFICERS: Final = (("sec", "security-officer"), ("ops", "system-administrator"))


class Centre:
    """One centre. Everything is asked of it as its operators would, on the command line."""

    def __init__(self, folder: Path) -> None:
        """Create it; starts nothing."""
        self.home = folder / "centre"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ASHORE_")}
        self.env: Mapping[str, str] = {**kept, "ASHORE_HOME": str(self.home), "TMPDIR": str(folder)}
        self._keys: dict[str, str] = {}

    def command(self, port: int, grpc: int) -> list[str]:
        """Make its keys, and return the command that starts it behind an edge which asks sites for certificates."""
        make_folder(self.home)
        config = self.home / "ashore.toml"
        config.write_text('[sites]\nrole = "centre"\n[[model]]\nname = "fake:echo"\nalias = "chat"\n')
        self.ask("site", "keys", "create", str(self.home / "operators"))
        words = ["up", "--config", str(config), "--port", str(port), "--grpc-port", str(grpc), "--edge", "envoy"]
        return python_command("ashore.cli.main", *words)

    def token(self) -> str:
        """Return what the twin joins with, once the centre has started; it has a model for it then."""
        end_s = time.monotonic() + START_S
        while not self._keys:
            try:
                keys = {name: self._made("access", "user", "create", name, "--role", role) for name, role in OFFICERS}
                self._keys = {name: str(made["key"]["key"]) for name, made in keys.items()}
            except EngineFailed:
                if time.monotonic() > end_s:
                    raise
                time.sleep(0.5)
        make_model(self.home / "model")
        self.ask("model", "pull", str(self.home / "model"), "--name", VERSION)
        self.ask("site", "publish", VERSION)
        return str(self._made("site", "create", SITE, key="sec")["token"])

    def assign(self) -> None:
        """Have the twin serve the model."""
        self.ask("site", "assign", SITE, "--serve", f"{ALIAS}={VERSION}", key="ops")

    def shown(self) -> Any:
        """Return what the centre knows of the twin."""
        return self._made("site", "show", SITE, key="ops")

    def ask(self, *words: str, key: str = "") -> str:
        """Run a command of ashore there, and return what it printed.

        Raises:
            EngineFailed: it failed.
        """
        env = {**self.env, **({"ASHORE_API_KEY": self._keys[key]} if key else {})}
        command = python_command("ashore.cli.main", *words)
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        if done.returncode:
            raise EngineFailed(f"`ashore {' '.join(words)}` failed: {done.stderr.strip()[-500:]}", hint="report this")
        return done.stdout

    def _made(self, *words: str, key: str = "") -> Any:
        return json.loads(self.ask(*words, "--json", key=key))
