"""Training data in a bucket of a real S3 server, over a link that is slow and breaks. No torch."""

from __future__ import annotations

import gzip
import json
import os
import random
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from s3_server import KEYS
from slow_link import slow_link
from tiny_text import CHATML, byte_level

from ashore.core.errors import BrokenData, Conflict, InvalidRequest, SourceUnreachable
from ashore.lab.training import LogBucket, RunLogs, look_at, open_set, pack_shards
from ashore.lab.training.runlog import RunLog
from ashore.lab.training.shards.places import open_place


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    return s3_url


def test_a_bucket_gives_what_a_folder_gives_over_a_link_that_is_cut(
    tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = byte_level(tmp_path / "text", CHATML)
    rng = random.Random(1)
    lines = [json.dumps({"prompt": f"q {n}", "completion": "the lazy dog " * rng.randint(1, 9)}) for n in range(300)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    local, remote = str(tmp_path / "s"), "s3://models/data/cut"
    source = [str(tmp_path / "a.jsonl")]
    packed = [pack_shards(source, out, tmp_path / "t", shard_bytes=40_000) for out in (local, remote)]
    assert packed[0].digest == packed[1].digest and packed[0].shards > 5
    with pytest.raises(Conflict, match="already exists"):
        pack_shards(source, remote, tmp_path / "t")
    assert not look_at(remote, tmp_path / "look").faults

    heard: list[str] = []
    with slow_link(s3) as link:

        def hear(line: str) -> None:
            heard.append(line)
            if line.startswith("waiting for shard-"):
                link.mend()

        monkeypatch.setenv("AWS_ENDPOINT_URL", link.url)
        link.cut_after = 70_000
        cache = tmp_path / "cache"
        here = open_set(local, text, max_length=64)
        away = open_set(remote + "/", text, max_length=64, cache=cache, say=hear)
        assert link.cuts == 1 and heard[0].startswith("waiting for shard-") and heard[-1].endswith("is here")
        assert away.ids.tobytes() == here.ids.tobytes() and away.used.digest == here.used.digest
        assert not list(cache.iterdir()), "a fetched shard has no name, and is gone once it was read"
        link.cut()
        monkeypatch.setattr("ashore.lab.training.shards.places.BucketPlace.patience_s", 0.1)
        with pytest.raises(SourceUnreachable, match="cannot reach s3://models/data/cut"):
            open_set(remote + "/", text, max_length=64)


def test_an_object_that_changes_while_it_is_read_is_refused(tmp_path: Path, s3: str) -> None:
    import obstore
    from obstore.store import S3Store

    text = byte_level(tmp_path / "text", CHATML)
    store = S3Store("models", endpoint=s3, region="us-east-1", client_options={"allow_http": True})
    for name in ("a", "b"):
        obstore.put(store, f"data/changed/{name}.jsonl", b'{"text": "the quick brown fox"}\n')
    place = open_place("s3://models/data/changed/a.jsonl", tmp_path)
    (shard,) = place.shards()
    obstore.put(store, "data/changed/a.jsonl", b'{"text": "the lazy brown fox"} \n')
    with pytest.raises(Conflict, match=r"a\.jsonl changed"), place.open(shard):
        pass
    assert open_set("s3://models/data/changed/", text, max_length=64).num_examples == 2
    with pytest.raises(InvalidRequest, match="does not exist"):
        open_set("s3://models/data/changed/nothing.tar", text, max_length=64)


def test_old_logs_go_into_the_bucket_and_are_found_there(tmp_path: Path, s3: str) -> None:
    for run, at in (("old", 1_000.0), ("new", 2_000.0)):
        with RunLog(tmp_path, run, now=lambda at=at: at) as log:  # type: ignore[misc]
            log.say("begin", f"of {run}")
        os.utime(tmp_path / f"{run}.jsonl", (at, at))
    logs = RunLogs(tmp_path, LogBucket("s3://models/logs/train"))
    before = logs.figures("old")
    for _ in range(2):
        moved = logs.archive(older_than_s=500, now_s=1_600)
    assert moved == [] and [path.name for path in tmp_path.iterdir()] == ["new.jsonl"]
    assert logs.figures("old") == before and logs.runs() == ["new", "old"]
    assert [line.text for line, _ in logs.lines(pattern="of old")] == ["of old"]
    assert not list(logs.lines("old", since_s=1_500))
    with RunLog(tmp_path, "old", now=lambda: 3_000.0) as log:
        log.say("begin", "again")
    assert [line.text for line, _ in logs.lines("old")] == ["of old", "again"]
    assert RunLogs(tmp_path).runs() == ["new", "old"]


def test_a_hostile_part_of_an_archive_takes_no_memory_and_a_broken_one_is_named(tmp_path: Path, s3: str) -> None:
    bucket = LogBucket("s3://models/logs/hostile")
    logs = RunLogs(tmp_path, bucket)
    one = msgspec.json.encode({"at": 5.0, "run": "long", "what": "note", "text": "after"})
    bucket.make("long/0000000001-0000000009.jsonl.gz", gzip.compress(b"0" * (256 << 20) + b"\n" + one + b"\n", 1))
    tracemalloc.start()
    try:
        assert [line.text for line, _ in logs.lines("long")] == ["after"]
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    bucket.make("cut/0000000001-0000000009.jsonl.gz", gzip.compress(one + b"\n")[:-9])
    with pytest.raises(BrokenData, match=r"cut/.* cannot be unpacked"):
        list(logs.lines("cut"))
