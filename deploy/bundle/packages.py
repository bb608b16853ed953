"""The deb and the rpm of a tree, and of the demo model: a user, a unit, and a configuration that upgrades keep.

Packages depend on nothing and start nothing. An upgrade restarts the service if it runs; home, keys and audit log stay
after remove and purge, and so does the user: its number must not come back to another.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from deploy.bundle import debs, tree

from ashore.machine.deployment.unit import Service, render_unit

HERE: Final = Path(__file__).parent
HOME: Final = Path("/var/lib/ashore")
CONFIG: Final = "/etc/ashore/ashore.toml"
KINDS: Final = ("deb", "rpm")


def make_packages(nfpm: Path, carried: Path, models: list[Path], out: Path, *, version: str, made_s: int) -> list[Path]:
    """Write the packages into `out`. Equal inputs give equal bytes."""
    out.mkdir(parents=True, exist_ok=True)
    arch = (carried / "RELEASE").read_text().split()[2].removeprefix("linux-")
    command = [f"{tree.PREFIX}/bin/ashore", "up", "--offline", "--config", CONFIG]
    unit = render_unit(
        Service(
            command=command, reload_command=[command[0], "reload"], home=HOME, user="ashore", models=["smollm2"],
            drain_timeout_s=30.0, readable=[Path(CONFIG)],
        )
    ).partition("[Unit]")  # fmt: skip
    scratch = out / "nfpm"
    scratch.mkdir()
    (scratch / "ashore.service").write_text("".join(unit[1:]))
    (scratch / "ashore.toml").write_text('# Every key: `ashore config show`\n[[model]]\nname = "smollm2"\n')
    (scratch / "pre.sh").write_text((HERE / "package/pre.sh").read_text().replace("VERSION", version))
    contents: list[dict[str, Any]] = [
        {"src": str(carried), "dst": tree.PREFIX, "type": "tree"},
        {"src": f"{tree.PREFIX}/bin/ashore", "dst": "/usr/bin/ashore", "type": "symlink"},
        {"src": str(scratch / "ashore.service"), "dst": "/usr/lib/systemd/system/ashore.service"},
        {"src": str(scratch / "ashore.toml"), "dst": CONFIG, "type": "config|noreplace",
         "file_info": {"mode": 0o640, "owner": "root", "group": "ashore"}},
    ]  # fmt: skip
    scripts = {
        "preinstall": str(scratch / "pre.sh"),
        "postinstall": str(HERE / "package/post.sh"),
        "preremove": str(HERE / "package/unpre.sh"),
        "postremove": str(HERE / "package/unpost.sh"),
    }
    about = {
        "arch": debs.ARCHITECTURES[arch], "platform": "linux", "version": version, "version_schema": "none",
        "maintainer": "The ashore authors <ashore@localhost>", "license": "Apache-2.0", "section": "net",
        "mtime": _utc(made_s), "deb": {"compression": "gzip"},
        "rpm": {"compression": "gzip:6", "buildhost": "ashore"},
    }  # fmt: skip
    wanted = [{**about, "name": "ashore", "description": "Models on your own machines, offline", "contents": contents,
               "scripts": scripts}]  # fmt: skip
    for model in models:
        into = f"/usr/share/ashore/models/{model.name}"
        post = scratch / f"{model.stem}.sh"
        post.write_text((HERE / "package/model.sh").read_text().replace("MODEL", into))
        wanted.append(
            {**about, "name": f"ashore-model-{model.stem}", "description": f"The model {model.stem} for ashore",
             "depends": ["ashore"], "contents": [{"src": str(model), "dst": into, "file_info": {"mode": 0o644}}],
             "scripts": {"postinstall": str(post)}}
        )  # fmt: skip
    for one in wanted:
        (scratch / "nfpm.json").write_text(json.dumps(one))
        for kind in KINDS:
            words = ["package", "--config", str(scratch / "nfpm.json"), "--packager", kind, "--target", f"{out}/"]
            subprocess.run([str(nfpm), *words], check=True, stdout=subprocess.DEVNULL)
    for path in scratch.iterdir():
        path.unlink()
    scratch.rmdir()
    return sorted(out.iterdir())


def _utc(at_s: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
