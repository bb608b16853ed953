"""Where there is no memory for two: what is live ends before the next release loads, and so it goes back."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from release_load import clients
from served import Served, call, host_of, owner_key, start_served

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_cold_standby_ends_first_and_loads_again_on_the_way_back(
    tmp_path: Path, free_port: Callable[[], int], ashore: Run
) -> None:
    fake = "fake:random?tok_per_s=100&tokens=8&load_s=1.5&seed={seed}"
    config = f'[[model]]\nname = "{fake.format(seed=1)}"\nalias = "chat"\n[cache]\nmode = "off"\n'
    server = start_served(tmp_path / "home", (), store=None, port=free_port(), grpc_port=0, config=config)
    try:
        key = owner_key(server)
        env = {"ASHORE_API_KEY": key}
        call(server, "POST", "/admin/v1/releases", key, {"alias": "chat", "model": fake.format(seed=2)})
        with clients(server, key, "chat", streams=4) as asked:
            words = ("release", "promote", "chat-2", "--cold-standby", "--override", "a trial")
            done = ashore(*words, home=server.home, env=env)
            assert done.returncode == 0 and done.stdout.startswith("chat-2  live"), done.stdout + done.stderr
            assert "a rollback would load chat-1 again; the last load took" in done.stderr
            assert never_both(server), "they were there together"
            time.sleep(0.5)
            shown = ashore("release", "status", "chat", home=server.home, env=env).stdout
            assert "chat-1 was live before; a rollback must load it first" in shown
            back = ashore("release", "rollback", "chat", home=server.home, env=env)
            assert back.returncode == 0 and back.stdout.startswith("chat-1  live"), back.stdout + back.stderr
            assert "chat-1 must load first; the last load took" in back.stderr
            time.sleep(0.5)
        bad = [one for one in asked if not one.whole]
        assert not bad, f"{len(bad)} of {len(asked)} requests failed where they had to wait: {bad[:3]}"
        assert {one.release for one in asked} == {"chat-1", "chat-2"}
        waited = max(one.first_s - one.began_s for one in asked)
        assert 1.0 < waited < 25, "somebody waited for a release to load"
    finally:
        server.stop()


def never_both(server: Served) -> bool:
    """Return whether the log says that the one host had ended before the other one was started."""
    said = server.said()
    ends, loads = said.find("chat-1 ends to make room"), said.find("loading release chat-2")
    return 0 <= ends < loads and host_of(server, "chat-2") > 0
