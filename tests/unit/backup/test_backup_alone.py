"""The hundred lines of `docs/backup_restore_alone.py`, which know nothing of ashore, restore what ashore backed up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from backup_rig import Rig, fill_home, same_files
from store_making import make_store, pull_tiny

from ashore.control.backup import open_node, parse_code

ALONE = Path(__file__).parents[3] / "docs" / "backup_restore_alone.py"


@pytest.mark.parametrize("code", ["2+1", "1+2", "3+2"])
def test_a_program_of_its_own_restores_a_home_of_which_m_nodes_are_gone(tmp_path: Path, code: str) -> None:
    n, m = parse_code(code).n, parse_code(code).m
    nodes = [open_node(str(tmp_path / f"node-{index}")) for index in range(n)]
    rig = Rig(tmp_path / "home", code, nodes).begin()
    files = fill_home(rig.root, num_bytes=2_500_000)
    model = pull_tiny(rig.store, tmp_path)
    rig.service.run(rig.contents)
    left = [node.place for node in nodes[m:]]
    words = [sys.executable, str(ALONE), str(rig.home.recovery_key), str(tmp_path / "out"), *left]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    same_files(tmp_path / "out", files)
    store = make_store(tmp_path / "out")
    assert store.resolve("tiny").digest == model.digest
    assert store.verify().ok


def test_it_has_a_hundred_lines_and_no_ashore() -> None:
    text = ALONE.read_text()
    assert sum(bool(line.strip()) for line in text.splitlines()) <= 100
    assert "import ashore" not in text and "from ashore" not in text
