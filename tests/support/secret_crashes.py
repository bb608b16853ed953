"""Kills a process that seals, unseals or rekeys the secrets of a home at every single step it takes on the file system.

Run as a process of its own: `secret_crashes.py FOLDER seal|unseal|rekey`. Prints the number of steps; ends with a
traceback where a home was left whose keys do not open, or that keeps what it must not.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from crash_steps import comes_through

from ashore.cli.bootstrap import build_store, key_keeper, open_state, rekey
from ashore.cli.bootstrap.secrets import list_home_secrets, seal_home_secrets, unseal_home_secrets
from ashore.control.audit import PRIVATE_KEYS
from ashore.data.audit import Checkpoints, SqlSubjectKeys, digest_key
from ashore.kit.sealing import SecretFolder, opened_by_keeper
from ashore.kit.settings import Home, Settings

EVENTS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir")


def main(folder: Path, verb: str) -> int:
    pristine, work = _settings(folder, "pristine"), _settings(folder, "home")
    pristine.home.create()
    Checkpoints(pristine.home.audit, pristine.home.audit_keys).make(1)
    digest_key(SecretFolder(pristine.home.audit_keys))
    state = open_state(pristine)
    SqlSubjectKeys(state).current("ada")
    state.close()
    needles = [(pristine.home.audit_keys / name).read_bytes() for name in PRIVATE_KEYS[:1]]
    wanted = _values(pristine)
    if verb != "seal":
        seal_home_secrets(pristine, key_keeper(pristine))
    step = 0
    while True:
        step += 1
        shutil.rmtree(work.home.root, ignore_errors=True)
        shutil.copytree(pristine.home.root, work.home.root)
        through = comes_through(partial(_act, work, verb), EVENTS, step)
        assert _values(work) == wanted, f"step {step} of {verb} lost a key"
        _act(work, verb)
        assert _values(work) == wanted, f"after step {step} of {verb} a second call lost a key"
        forms = {one.form for one in list_home_secrets(work) if one.form != "stays clear"}
        assert forms == {"clear" if verb == "unseal" else "sealed"}, (step, forms)
        if verb == "seal":
            _assert_none_clear(work.home.audit_keys, needles)
        if through:
            return step


def _act(settings: Settings, verb: str) -> None:
    match verb:
        case "seal":
            seal_home_secrets(settings, key_keeper(settings))
        case "unseal":
            unseal_home_secrets(settings, key_keeper(settings))
        case _:
            rekey(settings, build_store(settings.home, settings), to=None, new_key=True)


def _values(settings: Settings) -> tuple[bytes, ...]:
    """Return every secret as it is when it is opened, by the key source alone."""
    folder = SecretFolder(settings.home.audit_keys, opened_by_keeper(key_keeper(settings)))
    state = open_state(settings)
    try:
        content = SqlSubjectKeys(state).current("ada").secret
    finally:
        state.close()
    return (content, *(folder.read(name) for name in PRIVATE_KEYS if folder.exists(name)))


def _assert_none_clear(folder: Path, needles: list[bytes]) -> None:
    for path in folder.iterdir():
        data = path.read_bytes()
        assert not any(needle in data for needle in needles), f"{path} holds a key as it is"


def _settings(folder: Path, name: str) -> Settings:
    settings = Settings(home=Home(root=folder / name), sealing_key=f"keyring:{folder}/ring")
    return replace(settings, sealing_state=True)


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2]))
