"""Shards of training data: every form gives the same examples, in an order that needs no state; hostile ones are
refused. No torch, no network."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import itertools
import json
import os
import random
import signal
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_text import CHATML, byte_level

from ashore.errors import AshoreError, BrokenData, Conflict, DiskFull, InvalidRequest, LoaderDied, SourceUnreachable
from ashore.store import data_used
from ashore.text import TextModel
from ashore.training import (
    AheadBatches,
    PackedBatches,
    ReadOptions,
    TrainingSet,
    load_data,
    look_at,
    open_set,
    pack_shards,
)
from ashore.training.runstate import RunState
from ashore.training.shards import trainingset
from ashore.training.shards.cache import ShardCache
from ashore.training.shards.naming import written_out
from ashore.training.shards.places import FolderPlace, Shard, open_place
from ashore.training.shards.tarform import walk_tar, write_end, write_sample

WORDS = tuple("the quick brown fox jumps over the lazy dog and then sleeps in the park until late".split())  # noqa: SIM905


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    byte_level(folder, CHATML)
    return folder


@pytest.fixture
def text(text_folder: Path) -> TextModel:
    return TextModel.load(text_folder)


def documents(number: int, seed: int = 1) -> list[dict[str, str]]:
    rng = random.Random(seed)
    return [
        {"prompt": f"question {n}", "completion": " ".join(rng.choices(WORDS, k=rng.randint(2, 30)))}
        for n in range(number)
    ]


def write_lines(path: Path, found: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in found))
    return path


OPENED: list[TrainingSet] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def opened(name: Path | str, text: TextModel, tmp_path: Path, **fields: Any) -> TrainingSet:
    folder = fields.pop("text_folder", None)
    options = {"folder": tmp_path / "cache", "max_length": 64} | fields
    OPENED.append(open_set(str(name), text, ReadOptions(**options), text_folder=folder))
    return OPENED[-1]


def plan_of(data: TrainingSet, epochs: float = 2.0, seed: int = 5) -> PackedBatches:
    return PackedBatches(data, row_tokens=64, batch_tokens=128, seed=seed, epochs=epochs)


def content(batches: Any) -> list[tuple[Any, ...]]:
    return [(b.examples, b.ids_T.tolist(), b.targets_T.tolist(), b.lengths) for b in batches]


def test_every_form_gives_the_same_examples(tmp_path: Path, text: TextModel) -> None:
    found = documents(60)
    lines = write_lines(tmp_path / "plain" / "a.jsonl", found)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.read_bytes()))
    packed = pack_shards([str(lines)], str(tmp_path / "shards"), tmp_path / "tmp", shard_bytes=20_000)
    assert packed.samples == 60 and packed.shards > 2
    os.mkdir(tmp_path / "split")
    for part in range(3):
        write_lines(tmp_path / "split" / f"{part}.jsonl", found[20 * part : 20 * part + 20])
    (tmp_path / "s.tar.gz").write_bytes(gzip.compress((tmp_path / "shards" / "shard-000000.tar").read_bytes()))
    whole = load_data(lines, text, max_length=64)
    for name in (tmp_path / "a.jsonl.gz", tmp_path / "shards", tmp_path / "split", tmp_path / "split" / "{0..2}.jsonl"):
        other = load_data(name, text, max_length=64)
        assert np.array_equal(whole.ids, other.ids) and np.array_equal(whole.targets, other.targets), name
    assert load_data(tmp_path / "s.tar.gz", text, max_length=64).num_examples > 10


def test_shards_say_what_they_are_and_a_flipped_bit_is_named(tmp_path: Path, text: TextModel) -> None:
    lines = write_lines(tmp_path / "a.jsonl", documents(40))
    first, again = (pack_shards([str(lines)], str(tmp_path / n), tmp_path / "t", shard_bytes=20_000) for n in "xy")
    assert first.digest == again.digest, "equal data gives equal bytes"
    run = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=tmp_path / "x", capture_output=True)
    assert run.returncode == 0
    used = data_used(tmp_path / "x", "train").digest
    assert used == f"sha256:{first.digest}" == opened(tmp_path / "x", text, tmp_path).used.digest
    assert not look_at(str(tmp_path / "x"), tmp_path / "t").faults
    with pytest.raises(Conflict, match=r"shard-000000\.tar already exists"):
        pack_shards([str(lines)], str(tmp_path / "x"), tmp_path / "t")
    shard = tmp_path / "x" / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    (fault,) = look_at(str(tmp_path / "x"), tmp_path / "t").faults
    assert "shard-000001.tar is not what SHA256SUMS says" in fault
    shard.unlink()
    (fault,) = look_at(str(tmp_path / "x"), tmp_path / "t").faults
    assert "shard-000001.tar is in SHA256SUMS, but it is not there" in fault


def test_packing_shuffles_on_request_and_keeps_the_parts_of_others_shards(tmp_path: Path) -> None:
    with (tmp_path / "pictures.tar").open("wb") as file:
        for n in range(9):
            write_sample(file, f"a/{n}", {"jpg": bytes([n] * 5), "json": json.dumps({"text": f"picture {n}"}).encode()})
        write_end(file)
    for name, seed in (("kept", None), ("mixed", 3)):
        pack_shards([str(tmp_path / "pictures.tar")], str(tmp_path / name), tmp_path / "t", seed=seed)
    found = {}
    for name in ("kept", "mixed"):
        with tarfile.open(tmp_path / name / "shard-000000.tar") as tar:
            found[name] = [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
    assert sorted(found["kept"]) == sorted(found["mixed"]) and found["kept"] != found["mixed"]
    assert found["kept"][0] == ("a/0.jpg", b"\0" * 5)
    assert look_at(str(tmp_path / "kept"), tmp_path / "t").shards[0].parts == {"jpg": 9, "json": 9}


def test_resumed_at_any_step_with_any_number_of_workers_nothing_is_lost_and_nothing_twice(
    tmp_path: Path, text: TextModel, text_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainingset, "WINDOW_BYTES", 60_000)
    lines = write_lines(tmp_path / "a.jsonl", documents(400))
    pack_shards([str(lines)], str(tmp_path / "s"), tmp_path / "t", shard_bytes=30_000)
    data = opened(tmp_path / "s", text, tmp_path, text_folder=text_folder)
    assert len(data.setup.shards) > 10
    plan = plan_of(data)
    whole = [content(plan.batches(step)) for step in range(plan.num_steps)]
    seen = Counter(example for step in whole for batch in step for example in batch[0])
    assert set(seen) == set(range(400)) and set(seen.values()) == {2}
    rng = random.Random(11)
    for workers in (1, 3):
        with AheadBatches(plan_of(data), data, workers=workers) as source:
            for _ in range(25):
                start = rng.randrange(plan.num_steps)
                for step in range(start, min(start + 3, plan.num_steps)):
                    assert content(source.batches(step)) == whole[step]
            for step in range(plan.num_steps):
                assert content(source.batches(step)) == whole[step]


def test_the_index_is_the_same_whoever_made_it_and_is_kept(tmp_path: Path, text: TextModel, text_folder: Path) -> None:
    for part in range(5):
        write_lines(tmp_path / "s" / f"{part}.jsonl", documents(30, seed=part))
    heard: list[tuple[str, int, int]] = []
    options = ReadOptions(folder=tmp_path / "cache", max_length=64, workers=2)
    made = open_set(str(tmp_path / "s"), text, options, text_folder=text_folder, told=lambda *one: heard.append(one))
    assert heard[-1] == ("index", 5, 5)
    alone = opened(tmp_path / "s", text, tmp_path, folder=tmp_path / "other")
    assert made.pieces.tobytes() == alone.pieces.tobytes() and made.used == alone.used
    again = open_set(str(tmp_path / "s"), text, options, text_folder=text_folder, told=lambda *one: heard.append(one))
    assert len(heard) == 5 and again.pieces.tobytes() == made.pieces.tobytes(), "the kept index was taken"
    write_lines(tmp_path / "s" / "0.jsonl", documents(31, seed=9))
    with pytest.raises(Conflict, match=r"0\.jsonl changed while it was being used"):
        again.batch((0,))
    again.close()
    assert opened(tmp_path / "s", text, tmp_path).num_examples == 151


def test_order_is_a_function_of_seed_and_epoch_and_stays_within_windows(
    tmp_path: Path, text: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in range(6):
        write_lines(tmp_path / "s" / f"{part}.jsonl", documents(20, seed=part))
    data = opened(tmp_path / "s", text, tmp_path)
    sizes = [shard.num_bytes for shard in data.setup.shards]
    monkeypatch.setattr(trainingset, "WINDOW_BYTES", max(sizes) * 2)
    orders = {(seed, epoch): data.order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)}
    assert len({order.tobytes() for order in orders.values()}) == 4
    for key, order in orders.items():
        assert np.array_equal(order, data.order(*key)) and sorted(order) == list(range(120))
        shards = data.pieces["shard"][order]
        assert all(len(set(shards[at : at + 40])) == 2 for at in (0, 40, 80)), "two shards make a window"


def test_a_worker_that_is_killed_is_replaced_and_one_that_keeps_dying_ends_the_run(
    tmp_path: Path, text: TextModel, text_folder: Path
) -> None:
    data = opened(write_lines(tmp_path / "a.jsonl", documents(120)), text, tmp_path, text_folder=text_folder)
    plan = plan_of(data)
    heard: list[str] = []
    with AheadBatches(plan, data, workers=1, ahead_bytes=1, say=heard.append) as source:
        for step in range(12):
            if step in (3, 7):
                (process,) = source._processes
                assert process._process is not None
                os.kill(process._process.pid, signal.SIGKILL)
            assert content(source.batches(step)) == content(plan.batches(step))
    assert heard == ["a loader process died (signal 9) and is replaced"] * 2
    lost = dataclasses.replace(data, setup=msgspec.structs.replace(data.setup, text=str(tmp_path / "gone")))
    with AheadBatches(plan, lost, workers=1) as source, pytest.raises(LoaderDied, match="3 loader processes died"):
        source.batches(0)


def test_no_more_waits_than_may(tmp_path: Path, text: TextModel, text_folder: Path) -> None:
    data = opened(write_lines(tmp_path / "a.jsonl", documents(300)), text, tmp_path, text_folder=text_folder)
    with AheadBatches(plan_of(data), data, workers=2, ahead_bytes=13 * 128 * 4) as source:
        source.batches(0)
        with source._changed:
            assert source._changed.wait_for(lambda: len(source._ready) >= 4, timeout=60)
        assert len(source._sizes) <= 6


def hostile(**fields: Any) -> bytes:
    info = tarfile.TarInfo("a.json")
    info.size = 2
    form = fields.pop("format", tarfile.GNU_FORMAT)
    for name, value in fields.items():
        setattr(info, name, value)
    body = b"{}" + bytes(510) if info.isreg() else b""
    return info.tobuf(form) + body


@pytest.mark.parametrize(
    ("shard", "said"),
    [
        (hostile(name="/etc/passwd.json"), "not a name below"),
        (hostile(name="../a.json"), "not a name below"),
        (hostile(name="x/../../a.json"), "not a name below"),
        (hostile(type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0), "is a link"),
        (hostile(type=tarfile.LNKTYPE, linkname="b.json", size=0), "is a link"),
        (hostile(type=tarfile.CHRTYPE, size=0), "not a plain file"),
        (hostile(type=tarfile.FIFOTYPE, size=0), "not a plain file"),
        (hostile(type=tarfile.GNUTYPE_SPARSE), "not a plain file"),
        (hostile(size=1 << 40), "at most 1,073,741,824"),
        (hostile(size=5000), "the file ends before them"),
        (hostile(name="a.pkl"), "is a pickle"),
        (hostile(name="a.weights.pth"), "is a pickle"),
        (hostile(name="a" * 200_000 + ".json"), "a header of"),
        (hostile(name="../" + "a" * 120 + ".json", format=tarfile.PAX_FORMAT), "not a name below"),
        (hostile() + hostile(), "is there twice"),
        (hostile()[:300], "in the middle of a header"),
        (b"\x1f" * 1024, "not a header"),
        (b"", "the file is empty"),
    ],
)
def test_hostile_members_are_refused(tmp_path: Path, text: TextModel, shard: bytes, said: str) -> None:
    write_lines(tmp_path / "s" / "good.jsonl", documents(4))
    (tmp_path / "s" / "bad.tar").write_bytes(shard)
    with pytest.raises(BrokenData) as caught:
        opened(tmp_path / "s", text, tmp_path)
    assert said in caught.value.message and "bad.tar" in caught.value.message
    data = opened(tmp_path / "s", text, tmp_path, skip_broken=True)
    assert data.num_examples == 4 and data.num_skipped == 1 and "bad.tar" in data.skipped[0]


def test_a_sample_is_no_larger_in_all_its_parts_than_one_of_them_may_be(tmp_path: Path) -> None:
    """It is read as a whole. A file with holes takes no room on the disk."""
    with (tmp_path / "holes.tar").open("w+b") as file:
        for part in ("bin", "json"):
            info = tarfile.TarInfo(f"a.{part}")
            info.size = 600 << 20
            file.write(info.tobuf())
            file.seek(info.size, os.SEEK_CUR)
        file.truncate()
        with pytest.raises(ValueError, match="in all its parts"):
            list(walk_tar(file, end=file.tell()))


@given(st.binary(max_size=3000), st.integers(0, 2000))
def test_a_damaged_tar_is_a_value_error_or_samples(noise: bytes, at: int) -> None:
    out = io.BytesIO()
    for n in range(3):
        write_sample(out, f"k{n}", {"json": b'{"text": "abc"}', "txt": b"x" * 600})
    data = out.getvalue()
    data = data[:at] + noise + data[at + len(noise) :]
    try:
        for sample in walk_tar(io.BytesIO(data), end=len(data)):
            assert sample.offset + sample.num_bytes <= len(data) + 511
    except ValueError as error:
        assert str(error)


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="./\\\0", exclude_categories=["Cs"]), min_size=1, max_size=130),
            st.dictionaries(st.sampled_from(["json", "txt", "seg.png", "cls"]), st.binary(max_size=700), min_size=1),
        ),
        max_size=5,
        unique_by=lambda one: one[0],
    )
)
def test_what_is_written_is_read_by_us_and_by_tarfile(samples: list[tuple[str, dict[str, bytes]]]) -> None:
    out = io.BytesIO()
    for key, parts in samples:
        write_sample(out, key, parts)
    write_end(out)
    data = out.getvalue()
    found = (
        [
            (s.key, {part: data[at : at + size] for part, (at, size) in s.parts.items()})
            for s in walk_tar(io.BytesIO(data), end=len(data))
        ]
        if samples
        else []
    )
    assert found == samples
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [m.name for m in tar] == [f"{key}.{part}" for key, parts in samples for part in sorted(parts)]


@pytest.mark.parametrize("name", ["pipe:cat a.tar", "PIPE:x", "http://host/a.tar", "gs://b/a.tar", "file:a.jsonl"])
def test_names_that_are_no_place_are_refused(name: str, text: TextModel, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=name[:4]):
        opened(name, text, tmp_path)


def test_pickles_and_backward_ranges_are_refused(text: TextModel, tmp_path: Path) -> None:
    for name, said in (("a.pkl", "run code"), ("x/weights.pt", "run code"), ("a-{9..3}.tar", "not a range")):
        with pytest.raises(InvalidRequest, match=said):
            opened(name, text, tmp_path)
    for many in ("{0..999999}{0..999999}", "{0..99999}" * 20, "{0..9}" * 500, "{0..1" + "0" * 200 + "}"):
        with pytest.raises(InvalidRequest, match="more than 1,000,000 shards"):
            written_out(f"a-{many}.tar")
    with pytest.raises(InvalidRequest, match="2000 ranges"):
        written_out("{1..1}" * 2000)
    assert written_out("s-{08..11}.tar") == ("s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar")
    assert written_out("{0..1}/{0..1}") == ("0/0", "0/1", "1/0", "1/1")


def test_a_file_made_to_fill_the_disk_is_refused(tmp_path: Path, text: TextModel) -> None:
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(bytes(30 << 20)))
    with pytest.raises(BrokenData, match="more than 200 times"):
        opened(tmp_path / "bomb.jsonl.gz", text, tmp_path)
    assert not list((tmp_path / "cache" / "shards").glob("*.shard"))


def test_a_long_text_is_divided_and_none_of_it_is_lost(tmp_path: Path, text: TextModel) -> None:
    rng = random.Random(3)
    paragraphs = [" ".join(rng.choices([*WORDS, "天气很好"], k=80)) for _ in range(900)]
    (tmp_path / "book.txt").write_text("\n\n".join(paragraphs))
    data = opened(tmp_path / "book.txt", text, tmp_path)
    assert data.num_lines > 4 and data.lengths.max() == 64
    corpus = data.corpus()
    ends = set(text.eos_token_ids)
    said = b"".join(text.token_bytes(i) for i in corpus.ids.tolist() if i not in ends).decode()
    assert said.replace("\n", "").replace(" ", "") == "".join(paragraphs).replace(" ", "")


class FlakyPlace:
    """A twin of a bucket: gives some bytes, then is away for a while."""

    name = "s3://twin/a"

    def __init__(self, data: bytes, failures: int, *, gives: int = 100) -> None:
        self.data, self.failures, self.gives, self.asked = data, failures, gives, 0

    @property
    def shard(self) -> Shard:
        return Shard(name="a.jsonl", form="jsonl", num_bytes=len(self.data), stamp="1")

    def shards(self) -> tuple[Shard, ...]:
        return (self.shard,)

    def path(self, shard: Shard) -> None:
        return None

    def sums(self) -> bytes:
        return b""

    def put(self, name: str, source: Path) -> None:
        raise NotImplementedError

    def fetch(self, shard: Shard, target: Path) -> None:
        self.asked += 1
        with target.open("ab") as file:
            if self.asked > self.failures:
                file.write(self.data[file.tell() :])
                return
            file.write(self.data[file.tell() :][: self.gives])
        raise SourceUnreachable("the twin is away")


def test_a_server_that_is_away_is_waited_for_and_what_came_is_kept(tmp_path: Path) -> None:
    place, heard, paused = FlakyPlace(os.urandom(1000), failures=7), list[str](), list[float]()
    cache = ShardCache(tmp_path, place, say=heard.append, pause=paused.append)
    assert cache.path(place.shard).read_bytes() == place.data and place.asked == 8
    assert cache.digest(place.shard) == hashlib.sha256(place.data).hexdigest()
    silent = FlakyPlace(b"xyz", failures=6, gives=0)
    cache = ShardCache(tmp_path / "b", silent, say=heard.append, pause=paused.append)
    assert cache.path(silent.shard).read_bytes() == b"xyz"
    assert heard == ["waiting for a.jsonl: the twin is away", "a.jsonl is here"] and max(paused) == 8
    gone = FlakyPlace(b"xyz", failures=99, gives=0)
    with pytest.raises(SourceUnreachable, match="twin is away"):
        ShardCache(tmp_path / "c", gone, patience_s=0, pause=paused.append).path(gone.shard)


def test_the_cache_keeps_its_bound_and_the_shard_that_is_asked_for(tmp_path: Path) -> None:
    places = [FlakyPlace(os.urandom(1000), failures=0) for _ in range(6)]
    for number, place in enumerate(places):
        place.name = f"s3://twin/{number}"  # type: ignore[misc]
        cache = ShardCache(tmp_path, place, max_bytes=2500)
        assert cache.path(place.shard).read_bytes() == place.data
        assert sum(path.stat().st_size for path in tmp_path.glob("*.shard")) <= 2500
    small = ShardCache(tmp_path, places[0], max_bytes=10)
    assert small.path(places[0].shard).read_bytes() == places[0].data


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    place = FlakyPlace(b"x", failures=0)
    (tmp_path / "blocked").write_text("")
    with pytest.raises((DiskFull, AshoreError)):
        ShardCache(tmp_path / "blocked", place).path(place.shard)


def test_a_folder_without_data_and_a_changed_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.md").write_text("x")
    with pytest.raises(InvalidRequest, match="has no data files"):
        FolderPlace(str(tmp_path / "empty")).shards()


def test_a_bucket_that_lists_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    page = [{"path": f"data/{number}.txt", "size": 1, "e_tag": "x"} for number in range(1000)]
    noise = [{**one, "path": "data/x.png"} for one in page]
    monkeypatch.setattr("ashore.training.shards.places.MOST_SHARDS", 5_000)
    monkeypatch.setattr("ashore.training.shards.places.MOST_LISTED", 50_000)
    for endless, what in ((page, "5,000 objects"), (noise, "50,000 objects")):
        monkeypatch.setattr(obstore, "list", lambda store, prefix, endless=endless: itertools.repeat(endless))
        with pytest.raises(InvalidRequest, match=what):
            open_place("s3://bucket/data/").shards()


def test_what_is_no_file_among_checkpoints_is_none(tmp_path: Path) -> None:
    name = f"step-00000009-{32 * '0'}.safetensors"
    (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / name.replace("9", "8"))
    assert not RunState(folder=tmp_path).exists
