"""The deb and the rpm of a tree, and of the demo model: a user, a unit, and a configuration that upgrades keep.

Their folder is a repository of apt and of dnf: whoever signs its two lists has signed the packages.

Packages depend on nothing and start nothing. An upgrade restarts the service if it runs; home, keys and audit log stay
after remove and purge, and so does the user: its number must not come back to another.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from deploy.bundle import debs, tree

from ashore.machine.deployment.unit import Service, render_unit

HERE: Final = Path(__file__).parent
HOME: Final = Path("/var/lib/ashore")
CONFIG: Final = "/etc/ashore/ashore.toml"
KINDS: Final = ("deb", "rpm")
LISTS: Final = {"Release": "InRelease", "repodata/repomd.xml": "repodata/repomd.xml.asc"}
"""What a key signs in the folder, for apt and for dnf, and the file of the signature."""


def make_packages(
    nfpm: Path, carried: Path, models: list[Path], out: Path, *, version: str, made_s: int, level: int = 6
) -> list[Path]:
    """Write the packages into `out`, the programs by gzip of a level. Equal inputs give equal bytes."""
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
        "mtime": _at(made_s).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }  # fmt: skip
    wanted = [{**about, **_packed(level), "name": "ashore", "description": "Models on your own machines, offline",
               "contents": contents, "scripts": scripts}]  # fmt: skip
    for model in models:
        into = f"/usr/share/ashore/models/{model.name}"
        post = scratch / f"{model.stem}.sh"
        post.write_text((HERE / "package/model.sh").read_text().replace("MODEL", into))
        wanted.append(  # weights hardly shrink
            {**about, **_packed(1), "name": f"ashore-model-{model.stem}", "depends": ["ashore"],
             "description": f"The model {model.stem} for ashore",
             "contents": [{"src": str(model), "dst": into, "file_info": {"mode": 0o644}}],
             "scripts": {"postinstall": str(post)}}
        )  # fmt: skip
    for one in wanted:
        (scratch / "nfpm.json").write_text(json.dumps(one))
        words = ["package", "--config", str(scratch / "nfpm.json"), "--target", f"{out}/", "--packager"]
        running = [subprocess.Popen([str(nfpm), *words, kind], stdout=subprocess.DEVNULL) for kind in KINDS]
        if [one for one in running if one.wait()]:
            raise SystemExit(f"error: nfpm could not make the packages of {one['name']}; see above")
    for path in scratch.iterdir():
        path.unlink()
    scratch.rmdir()
    return sorted(out.iterdir())


def _packed(level: int) -> dict[str, Any]:
    how = f"gzip:{level}"
    return {"deb": {"compression": how}, "rpm": {"compression": how, "buildhost": "ashore"}}


def make_repository(createrepo: Path, folder: Path, *, made_s: int) -> None:
    """Write the lists of a folder of packages for apt and dnf. Equal inputs give equal bytes."""
    entries = []
    for path in sorted(folder.glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "--field", str(path)], capture_output=True, text=True, check=True).stdout
        facts = f"Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {_sha256(path)}\n"
        entries.append(f"{control.rstrip()}\n{facts}")
    listed = folder / "Packages"
    listed.write_text("\n".join(entries))
    (folder / "Release").write_text(
        f"Origin: ashore\nLabel: ashore\nSuite: stable\nDate: {_at(made_s):%a, %d %b %Y %H:%M:%S UTC}\n"
        f"SHA256:\n {_sha256(listed)} {listed.stat().st_size} {listed.name}\n"
    )
    for path in folder.glob("*.rpm"):
        os.utime(path, (made_s, made_s))  # stands in the list
    words = ["--quiet", "--general-compress-type=gz", f"--revision={made_s}", "--set-timestamp-to-revision"]
    subprocess.run([str(createrepo), *words, str(folder)], check=True)


def sign_repository(folder: Path, key: str) -> None:
    """Sign the lists with a key of gpg."""
    for name, signature in LISTS.items():
        how = "--clear-sign" if signature == "InRelease" else "--detach-sign"
        words = ["--local-user", key, "--armor", "--output", str(folder / signature), how, str(folder / name)]
        subprocess.run(["gpg", "--batch", "--yes", *words], check=True)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _at(time_s: int) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)
