"""Shards of training data: every form gives the same examples, in an order that needs no state; hostile ones are
refused. No torch, no network."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import os
import random
import subprocess
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_text import CHATML, byte_level

from ashore.core.errors import BrokenData, Conflict, InvalidRequest, MemoryFull
from ashore.data.text import TextModel
from ashore.kit.store import data_used
from ashore.lab.training import PackedBatches, TrainingSet, load_data, look_at, open_set, pack_shards
from ashore.lab.training.runstate import RunState
from ashore.lab.training.shards.naming import written_out
from ashore.lab.training.shards.packing import write_end, write_sample
from ashore.lab.training.shards.places import FolderPlace, Shard, open_place
from ashore.lab.training.shards.samples import walk, walk_tar

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


def opened(name: Path | str, text: TextModel, tmp_path: Path, **fields: Any) -> TrainingSet:
    return open_set(str(name), text, **({"cache": tmp_path / "cache", "max_length": 64} | fields))


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


def test_packing_keeps_the_parts_of_other_shards(tmp_path: Path) -> None:
    with (tmp_path / "pictures.tar").open("wb") as file:
        for n in range(9):
            write_sample(file, f"a/{n}", {"jpg": bytes([n] * 5), "json": json.dumps({"text": f"picture {n}"}).encode()})
        write_end(file)
    pack_shards([str(tmp_path / "pictures.tar")], str(tmp_path / "kept"), tmp_path / "t")
    with tarfile.open(tmp_path / "kept" / "shard-000000.tar") as tar:
        found = [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
    assert found[0] == ("a/0.jpg", b"\0" * 5) and len(found) == 18
    assert look_at(str(tmp_path / "kept"), tmp_path / "t").shards[0].parts == {"jpg": 9, "json": 9}


def test_resumed_at_any_step_nothing_is_lost_and_nothing_twice(tmp_path: Path, text: TextModel) -> None:
    lines = write_lines(tmp_path / "a.jsonl", documents(400))
    pack_shards([str(lines)], str(tmp_path / "s"), tmp_path / "t", shard_bytes=30_000)
    heard: list[tuple[str, int, int]] = []
    data = opened(tmp_path / "s", text, tmp_path, told=lambda *one: heard.append(one))
    assert len(heard) > 10 and heard[-1] == ("read", len(heard), len(heard))
    plan = plan_of(data)
    whole = [content(plan.batches(step)) for step in range(plan.num_steps)]
    seen = Counter(example for step in whole for batch in step for example in batch[0])
    assert set(seen) == set(range(400)) and set(seen.values()) == {2}
    again = plan_of(opened(tmp_path / "s", text, tmp_path))
    for step in random.Random(11).sample(range(plan.num_steps), 25):
        assert content(again.batches(step)) == whole[step]


def test_examples_know_their_person_and_more_than_fits_is_refused(tmp_path: Path, text: TextModel) -> None:
    found = [{**one, "user": f"u{n % 3}"} for n, one in enumerate(documents(9))]
    lines = write_lines(tmp_path / "a.jsonl", [*found, *documents(1)])
    assert opened(lines, text, tmp_path, person="user").people == (*["u0", "u1", "u2"] * 3, "")
    with pytest.raises(MemoryFull, match="more than 100 tokens"):
        opened(lines, text, tmp_path, most_bytes=500)


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
        (hostile(type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0), "is a link, a device"),
        (hostile(type=tarfile.LNKTYPE, linkname="b.json", size=0), "is a link, a device"),
        (hostile(type=tarfile.CHRTYPE, size=0), "not a plain file"),
        (hostile(type=tarfile.FIFOTYPE, size=0), "not a plain file"),
        (hostile(type=tarfile.GNUTYPE_SPARSE), "not a plain file"),
        (hostile(size=1 << 40), "at most 1,073,741,824"),
        (hostile(size=5000), "unexpected end of data"),
        (hostile(name="a.pkl"), "is a pickle"),
        (hostile(name="a.weights.pth"), "is a pickle"),
        (hostile(name="a" * 200_000 + ".json"), "not a name below"),
        (hostile(name="../" + "a" * 120 + ".json", format=tarfile.PAX_FORMAT), "not a name below"),
        (hostile() + hostile(), "is there twice"),
        (hostile()[:300], "truncated header"),
        (b"\x1f" * 1024, "bad checksum"),
        (hostile(size=-512), "cannot be read"),
        (hostile(name="x", type=tarfile.XHDTYPE, size=-512), "cannot be read"),
        (hostile(name="g", type=tarfile.XGLTYPE, size=0) * 3_000 + hostile(), "recursion"),
        (b"", "empty file"),
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


def test_a_sample_is_no_larger_in_all_its_parts_than_one_of_them_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashore.lab.training.shards.samples.MOST_MEMBER_BYTES", 10_000)
    out = io.BytesIO()
    write_sample(out, "a", {"bin": bytes(6_000), "json": bytes(6_000)})
    out.seek(0)
    with pytest.raises(ValueError, match="larger than 10,000 bytes"):
        list(walk_tar(out))


@given(st.binary(max_size=3000), st.integers(0, 2000))
def test_a_damaged_tar_is_refused_or_gives_samples(noise: bytes, at: int) -> None:
    out = io.BytesIO()
    for n in range(3):
        write_sample(out, f"k{n}", {"json": b'{"text": "abc"}', "txt": b"x" * 600})
    write_end(out)
    data = out.getvalue()
    data = data[:at] + noise + data[at + len(noise) :]
    shard = Shard(name="a.tar", form="tar", num_bytes=len(data))
    with contextlib.suppress(BrokenData):
        assert all(sample.parts for sample in walk(io.BytesIO(data), shard))


def test_a_damaged_header_between_samples_is_not_the_end(tmp_path: Path) -> None:
    """`tarfile` alone stops there without a word."""
    out = io.BytesIO()
    for n in range(3):
        write_sample(out, f"k{n}", {"json": b'{"text": "abc"}'})
    data = bytearray(out.getvalue())
    data[1024 + 150] ^= 1
    with pytest.raises(ValueError, match="byte 1024: not a header"):
        list(walk_tar(io.BytesIO(data)))


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
    out.seek(0)
    assert [(sample.key, dict(sample.parts)) for sample in walk_tar(out)] == [
        (key, dict(sorted(parts.items()))) for key, parts in samples
    ]
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
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


def test_a_long_text_is_divided_and_none_of_it_is_lost(tmp_path: Path, text: TextModel) -> None:
    rng = random.Random(3)
    paragraphs = [" ".join(rng.choices([*WORDS, "天气很好"], k=80)) for _ in range(900)]
    (tmp_path / "book.txt").write_text("\n\n".join(paragraphs))
    data = opened(tmp_path / "book.txt", text, tmp_path)
    assert data.num_examples > 4 and data.lengths.max() == 64
    ends = set(text.eos_token_ids)
    said = b"".join(text.token_bytes(i) for i in data.ids.tolist() if i not in ends).decode()
    assert said.replace("\n", "").replace(" ", "") == "".join(paragraphs).replace(" ", "")


def test_a_folder_without_data_and_a_changed_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.md").write_text("x")
    with pytest.raises(InvalidRequest, match="has no data files"):
        FolderPlace(str(tmp_path / "empty")).shards()


def test_a_bucket_that_lists_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    page = [{"path": f"data/{number}.txt", "size": 1, "e_tag": "x"} for number in range(1000)]
    noise = [{**one, "path": "data/x.png"} for one in page]
    monkeypatch.setattr("ashore.lab.training.shards.places.MOST_SHARDS", 5_000)
    monkeypatch.setattr("ashore.lab.training.shards.places.MOST_LISTED", 50_000)
    for endless, what in ((page, "5,000 objects"), (noise, "50,000 objects")):
        monkeypatch.setattr(obstore, "list", lambda store, prefix, endless=endless: itertools.repeat(endless))
        with pytest.raises(InvalidRequest, match=what):
            open_place("s3://bucket/data/").shards()


def test_what_is_no_file_among_checkpoints_is_none(tmp_path: Path) -> None:
    name = f"step-00000009-{32 * '0'}.safetensors"
    (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / name.replace("9", "8"))
    assert not RunState(folder=tmp_path).exists
