"""The page about shards and checkpoints, run as a reader would: a tiny model, few examples, a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_run import blocks_of, reader_env, run_block
from s3_server import KEYS
from test_fine_tune_a_model import write_examples
from tiny_models import make_tiny_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "train-on-shards.md"


@pytest.mark.train
@pytest.mark.timeout(900)
def test_the_page_does_what_it_says(tmp_path: Path, s3_url: str) -> None:
    folder, home = tmp_path / "work", tmp_path / "home"
    page = PAGE.read_text(encoding="utf-8")
    changes = {
        "model pull smollm2": f"model pull {make_tiny_model(tmp_path / 'tiny', 'llama')} --name smollm2",
        "s3://training/": "s3://models/page/",
    }
    for old, new in changes.items():
        assert old in page, f"the page has no {old!r} any more"
        page = page.replace(old, new)
    blocks, files = blocks_of(page)
    assert not files
    write_examples(folder)
    env = reader_env(folder, home) | KEYS | {"AWS_ENDPOINT_URL": s3_url}
    for block in blocks:
        run_block(block, folder=folder, env=env, timeout_s=600)
