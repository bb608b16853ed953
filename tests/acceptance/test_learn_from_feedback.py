"""The page about feedback, run as a reader would: the votes over a fake model, all of it over a tiny one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from page_run import blocks_of, reader_env, run_block
from served import start_served
from tiny_models import make_tiny_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "learn-from-feedback.md"
COLLECT = "6. **Collect more.**"
ADMINISTRATORS = """
SAM=$(ashore access user create sam --role system-administrator)
SEC=$(ashore access user create sec --role security-officer)
ANN=$(ashore access user create ann --role auditor)
"""


BY_HAND = 'ashore learn run smollm2 || echo "the gate refused it"'
BY_ITSELF = """for _ in $(seq 300); do
     ashore learn status smollm2 --json | grep -qE '"state":"(released|passed|refused)"' && break
     sleep 2
   done
   for _ in $(seq 120); do ashore learn status smollm2 | grep -q "the last one" && break; sleep 1; done
   ashore learn status; ashore job list"""


def run_page(tmp_path: Path, free_port: Callable[[], int], *, whole: bool, by_itself: bool = False) -> str:
    """Run the page up to the learning, or all of it, and return what it printed.

    Args:
        by_itself: Whether the run begins once enough votes came, and not by hand.
    """
    folder, home, port = tmp_path / "work", tmp_path / "home", free_port()
    page = PAGE.read_text(encoding="utf-8")
    task = folder / "colours.jsonl"
    for old, new in {
        "http://127.0.0.1:8080": f"http://127.0.0.1:{port}",
        "/srv/ashore/colours.jsonl": str(task),
    }.items():
        assert old in page, f"the page has no {old!r} any more"
        page = page.replace(old, new)
    owner = home / "owner.key"
    if by_itself:
        assert BY_HAND in page and "role model-owner)" in page
        page = page.replace(BY_HAND, BY_ITSELF)
        page = page.replace("role model-owner)", f'role model-owner); printf %s "$ERIN" > {owner}')
    last = len(page.splitlines()) if whole else page.count("\n", 0, page.index(COLLECT))
    blocks, files = blocks_of(page)
    folder.mkdir()
    home.mkdir()
    head = {"task": "colours", "kind": "classify", "style": "chat", "labels": ["abc", "xyz"], "template": "{prompt}"}
    items = [
        {"prompt": f"red {n}: ", "answer": "abc"} if n % 2 else {"prompt": f"blue {n}: ", "answer": "xyz"}
        for n in range(100, 140)
    ]
    task.write_text("".join(json.dumps(one) + "\n" for one in (head, *items)), encoding="utf-8")
    spec = files.pop("ashore.toml")
    assert not files
    env = reader_env(folder, home)
    spec += f'at = "02:00"\nzone = "Europe/Berlin"\nkey_file = "{owner}"\n'
    spec += "at_examples = 40\n" if by_itself else ""
    if whole:
        tiny = make_tiny_model(tmp_path / "tiny", "llama")
        run_block(blocks_of(f"```sh\nashore model pull {tiny} --name smollm2\n```\n")[0][0], folder=folder, env=env)
        spec += "old_skills = []\nlearning_rate = 5e-3\n"
    else:
        spec = spec.replace('name = "smollm2"', 'name = "fake:echo"\nalias = "smollm2"')
    (home / "ashore.toml").write_text(spec, encoding="utf-8")
    server = start_served(
        home, (), store=None, port=port, grpc_port=free_port(), options=("--config", str(home / "ashore.toml"))
    )
    try:
        first = blocks_of(f"```sh\n{ADMINISTRATORS}```\n")[0][0]
        then = blocks_of("```sh\nashore learn status smollm2\n```\n")[0][0]
        return "".join(
            run_block(block, folder=folder, env=env, timeout_s=600)
            for block in (first, *(one for one in blocks if one.line <= last), then)
        )
    finally:
        server.stop()


def test_users_vote_and_are_erased(tmp_path: Path, free_port: Callable[[], int]) -> None:
    said = run_page(tmp_path, free_port, whole=False)
    assert "runs begin at 02:00 Europe/Berlin" in said
    log = (tmp_path / "home" / "logs" / "control.log").read_text(encoding="utf-8")
    assert "no run begins here" in log or "ERROR" not in log, log


@pytest.mark.train
@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("by_itself", [False, True])
def test_a_model_learns_and_is_judged(tmp_path: Path, free_port: Callable[[], int], by_itself: bool) -> None:
    said = run_page(tmp_path, free_port, whole=True, by_itself=by_itself)
    assert not by_itself or "learn run" in said, "the run is a job of the server"
    assert "passed  gain_min held-out" in said, "it learned what no vote was about"
