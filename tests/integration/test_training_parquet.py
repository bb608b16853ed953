"""Training data in Parquet, as hubs give it. Needs pyarrow (`make test-train`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_text import CHATML, byte_level

from ashore.core.errors import BrokenData
from ashore.lab.training import load_data, pack_shards
from ashore.lab.training.shards.places import Shard
from ashore.lab.training.shards.samples import walk

pytestmark = pytest.mark.train

pyarrow = pytest.importorskip("pyarrow")


def test_rows_are_learned_as_lines_are(tmp_path: Path) -> None:
    from pyarrow import parquet

    text = byte_level(tmp_path / "text", CHATML)
    call = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
    rows = [
        {"messages": [{"role": "user", "content": "the fox"}, {"role": "assistant", "content": f"jumps {n}"}]}
        for n in range(700)
    ]
    rows[3]["messages"][1]["tool_calls"] = [call]  # type: ignore[index]
    table = pyarrow.Table.from_pylist([{**row, "score": 1.0} for row in rows])
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ours, theirs = (load_data(tmp_path / name, text, max_length=64) for name in ("a.parquet", "a.jsonl"))
    assert np.array_equal(ours.ids, theirs.ids) and np.array_equal(ours.targets, theirs.targets)
    packed = pack_shards([str(tmp_path / "a.parquet")], str(tmp_path / "s"), tmp_path / "t")
    assert packed.samples == 700
    assert np.array_equal(load_data(tmp_path / "s", text, max_length=64).ids, theirs.ids)


def test_a_table_of_something_else_and_half_a_file_are_named(tmp_path: Path) -> None:
    from pyarrow import parquet

    text = byte_level(tmp_path / "text", CHATML)
    parquet.write_table(pyarrow.table({"pixels": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(BrokenData, match="no column messages, prompt or text, only pixels"):
        load_data(tmp_path / "a.parquet", text, max_length=64)
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "half.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BrokenData, match=r"half\.parquet cannot be read"):
        load_data(tmp_path / "half.parquet", text, max_length=64)


def test_a_table_made_to_fill_the_disk_is_refused(tmp_path: Path) -> None:
    from pyarrow import parquet

    rows = pyarrow.table({"text": ["a" * 10_000] * 5_000})
    parquet.write_table(rows, tmp_path / "bomb.parquet")
    with pytest.raises(BrokenData, match="more than 200 times"):
        load_data(tmp_path / "bomb.parquet", byte_level(tmp_path / "text", CHATML), max_length=64)


def test_one_long_value_in_every_row_is_not_decoded_for_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyarrow import parquet

    monkeypatch.setattr("ashore.lab.training.shards.samples._BATCH_BYTES", 16 << 20)
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 256, pyarrow.int32()), ["a" * (4 << 20)])
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "a.parquet", compression="zstd", store_schema=False)
    pool, path = pyarrow.default_memory_pool(), tmp_path / "a.parquet"
    before = pool.max_memory()
    shard = Shard(name=path.name, form="parquet", num_bytes=path.stat().st_size)
    with path.open("rb") as file, pytest.raises(BrokenData, match="more than 200 times"):
        assert all(sample.parts for sample in walk(file, shard))
    assert pool.max_memory() - before < 256 << 20, "256 rows at once are a gigabyte"
