"""`ashore privacy` as a user runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
from served import Served, call
from waiting import eventually

from ashore.core.clock import SystemClock
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.data.privacy import Privacy, PrivacyDesk, PrivacyPolicy
from ashore.kit.call import Actor
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import open_database

ID = "11010519491231002X"
TEXT = f"我是张先生，身份证{ID}\n电话13812345678\n"

Ashore = Callable[..., subprocess.CompletedProcess[str]]


def letter(tmp_path: Path) -> Path:
    file = tmp_path / "letter.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def test_detect_tells_kinds_and_places_and_no_values(ashore: Ashore, tmp_path: Path) -> None:
    done = ashore("privacy", "detect", str(letter(tmp_path)), home=tmp_path / "home")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split() == ["id_card", "mask", "line", "1,", "column", "10,", "18", "characters"]
    assert ID not in done.stdout + done.stderr and "138" not in done.stdout + done.stderr
    told = json.loads(ashore("privacy", "detect", str(letter(tmp_path)), "--json", home=tmp_path / "home").stdout)
    assert told["items"][1] == {"kind": "id_card", "start": 9, "end": 27, "action": "mask"}
    assert told["counts"] == {"name": 1, "id_card": 1, "phone": 1}


def test_mask_prints_what_a_model_would_see(ashore: Ashore, tmp_path: Path) -> None:
    done = ashore("privacy", "mask", str(letter(tmp_path)), home=tmp_path / "home")
    assert done.stdout == TEXT.replace(ID, "[ID_CARD_1]")


def test_the_policy_of_a_file_and_of_the_state(ashore: Ashore, tmp_path: Path) -> None:
    config = tmp_path / "ashore.toml"
    config.write_text('[privacy]\nprompts = { phone = "block" }\n')
    done = ashore("privacy", "mask", str(letter(tmp_path)), "--config", str(config), home=tmp_path / "home")
    assert "would refuse this text: it contains phone" in done.stderr
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    state = open_database(home / "state.db", snapshots=home / "snapshots", clock=SystemClock())
    try:
        policy = PrivacyPolicy(prompts={"phone": "mask"})
        privacy = Privacy(policy, secret=b"s" * 32)
        desk = PrivacyDesk(privacy, policy, state, clock=SystemClock(), recorder=MemoryRecorder())
        desk.change(policy, replaces=0, actor=Actor(principal=Principal(id="officer", tenant=TenantId(""))))
    finally:
        state.close()
    assert "[PHONE_1]" in ashore("privacy", "mask", str(letter(tmp_path)), home=home).stdout
    shown = json.loads(ashore("privacy", "policy", "show", "--json", home=home).stdout)
    assert shown["source"] == "the state" and shown["policy"]["prompts"] == {"phone": "mask"}


def test_a_file_that_is_no_text_is_refused(ashore: Ashore, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff")
    done = ashore("privacy", "mask", str(tmp_path / "picture"), home=tmp_path / "home")
    assert done.returncode == 2 and "not UTF-8 at byte 0" in done.stderr


def test_the_policy_of_a_server_is_printed_changed_and_given_back(
    ashore: Ashore, served: Callable[..., Served], tmp_path: Path
) -> None:
    server = served("fake:echo", config='[privacy]\nprompts = { email = "mask" }\n')
    made = call(server, "POST", "/admin/v1/users", server.key, {"id": "sec", "roles": ["security-officer"], "key": {}})
    officer = made["key"]["key"]

    def policy(*words: str) -> subprocess.CompletedProcess[str]:
        return ashore("privacy", "policy", *words, home=server.home, env={"ASHORE_API_KEY": officer})

    def echoed() -> str:
        body = {"model": "fake:echo", "messages": [{"role": "user", "content": "call 13812345678"}], "temperature": 0}
        answer = httpx.post(
            server.base_url + "/chat/completions", json=body, headers={"authorization": f"Bearer {server.key}"}
        )
        return "refused" if answer.status_code == 403 else "answered"

    assert echoed() == "answered"
    file = tmp_path / "policy.toml"
    file.write_text(policy("show", "--toml").stdout)
    assert "version = 0" in file.read_text() and 'email" = "mask"' in file.read_text()
    file.write_text(file.read_text().replace('"mask" }', '"mask", phone = "block" }'))
    dry = policy("set", str(file), "--dry-run")
    assert "phone in prompts: allow -> block" in dry.stdout and "stays at version 0" in dry.stdout, dry.stderr
    assert echoed() == "answered"
    done = json.loads(policy("set", str(file), "--json").stdout)
    assert (done["version"], done["source"]) == (1, "state")
    assert done["changes"] == ["tenant *, model *: phone in prompts: allow -> block"]
    eventually(lambda: echoed() == "refused", 10)
    assert "nothing to change; the policy stays at version 1" in policy("set", str(file)).stdout
    file.write_text(file.read_text().replace('phone = "block"', 'phone = "mask"'))
    second = policy("set", str(file))
    assert second.returncode != 0 and "is at version 1, and this change is based on version 0" in second.stderr
    found = ashore("audit", "search", "--action", "privacy:write", "--json", home=server.home)
    (act,) = json.loads(found.stdout)["items"]
    assert act["resource"] == "policy/privacy" and act["outcome"] == "done"
    assert "from ashore.toml" in policy("reset", "--replaces", "1").stdout
    assert policy("set", str(file), "--replaces", "7").returncode != 0
    file.write_text("[privacy]\n")
    assert "no `version`" in policy("set", str(file)).stderr
