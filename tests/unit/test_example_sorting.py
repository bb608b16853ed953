"""The sorting example: pictures read with bounds, a head that ashore loads as learnt, and a line that is slow."""

from __future__ import annotations

import io
import json
import socket
import struct
import sys
import threading
import time
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    for name in [name for name in sys.modules if name.split(".")[0] in ("sorting", "defects", "shared")]:
        monkeypatch.delitem(sys.modules, name)


def saved(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in (header, *chunks)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


HOSTILE = {
    "a header that lies": (png(60_000, 60_000, (b"IDAT", b"")), "pixels"),
    "large, and all there": (png(9_000, 9_000, (b"IDAT", zlib.compress(b"")), (b"IEND", b"")), "pixels"),
    "cut off": (saved(Image.new("L", (400, 400), 99), "JPEG")[:200], "not a readable"),
    "text that unpacks": (png(9, 9, (b"zTXt", b"a\0\0" + zlib.compress(b"x" * (80 << 20)))), "not a readable"),
    "another kind": (saved(Image.new("L", (9, 9)), "GIF"), "not a readable"),
    "a program": (b"MZ" + b"\0" * 99, "not a readable"),
    "nothing": (b"", "not a readable"),
    "too many bytes": (b"\xff\xd8" + b"\0" * (17 << 20), "at most"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_picture_is_refused_by_its_header(name: str) -> None:
    sight = import_module("sorting.sight")
    data, words = HOSTILE[name]
    with pytest.raises(sight.BadPicture, match=words):
        sight.open_picture(data)


def test_pictures_are_drawn_alike_and_read_at_one_size() -> None:
    parcels, sight = import_module("sorting.parcels"), import_module("sorting.sight")
    assert sum(parcels.SHARES) == pytest.approx(1)
    for kind in parcels.KINDS:
        first, again = (parcels.draw_parcel(5, kind, 160).picture for _ in range(2))
        assert first.tobytes() == again.tobytes() != parcels.draw_parcel(6, kind, 160).picture.tobytes()
        assert sight.open_picture(saved(first, "JPEG")).shape == (sight.SIZE, sight.SIZE)


def test_a_head_decides_in_ashore_as_it_was_learnt(tmp_path: Path) -> None:
    from ashore.data.engines.tabular.form import Head

    sight, parcels = import_module("sorting.sight"), import_module("sorting.parcels")
    draw = np.random.default_rng(1)
    kinds = np.repeat(np.arange(len(parcels.KINDS)), 60)
    numbers = 0.3 * draw.normal(0, 1, (len(kinds), sight.WIDTH)) + 0.6 * (np.arange(sight.WIDTH) % 5 == kinds[:, None])
    order = draw.permutation(len(kinds))
    head = sight.train_head(numbers[order], kinds[order], false_alarms=0.05)
    loaded = Head.load(head.write(tmp_path / "head"), "model.safetensors")
    rows = [{"picture": one.round(2).tolist()} for one in numbers[:100]]
    said = loaded.answer(rows, "")["decisions"]
    floats = (numbers[:100].round(2) @ head.weights.T + head.bias).argmax(1)
    alike = sum(a == parcels.KINDS[b] for a, b in zip(said, floats, strict=True))  # type: ignore[call-overload]
    assert alike >= 97, "rounding to eight bits changes next to nothing"


@pytest.mark.parametrize(
    ("said", "kind", "fine"),
    [
        ("The parcel is torn: send it to repacking.", "torn", True),
        ("A corner is crushed, look inside.", "crushed", True),
        ("The parcel is torn and wet.", "torn", False),
        ("The parcel is torn in 3 places.", "torn", False),
        ("Move the parcel.", "torn", False),
        ("The parcel is torn <script>.", "torn", False),
        ("The parcel is torn and should be", "torn", False),
    ],
)
def test_a_sentence_speaks_of_the_damage_that_was_found(said: str, kind: str, fine: bool) -> None:
    run = import_module("sorting.run")
    assert run.fits(said, kind) is fine
    assert all(run.fits(text, kind) for kind, text in run.TEMPLATES.items())

    class Twin:
        def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            return {"choices": [{"message": {"content": json.dumps({"lane": "x", "say": said})}}]}

    assert run.sentence(Twin(), kind) == ((said, True) if fine else (run.TEMPLATES[kind], False))


def test_the_centre_refuses_a_bad_picture_and_goes_on() -> None:
    run = import_module("sorting.run")
    centre = run.centre_of(None, None)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{centre.server_port}", trust_env=False) as client:
            for _ in range(2):
                answer = client.post("/", content=b"no picture")
                assert answer.status_code == 400 and "not a readable" in answer.json()["error"]
    finally:
        centre.shutdown()
        centre.server_close()


def test_a_line_takes_its_time_and_holds_what_was_sent_while_it_is_cut() -> None:
    link = import_module("sorting.link")
    before = threading.active_count()  # of the process, which may have run other files
    with socket.create_server(("127.0.0.1", 0)) as far:
        line = link.Link(far.getsockname()[1], delay_s=0.1, bytes_per_s=40_000)
        with socket.create_connection(("127.0.0.1", line.port)) as near:
            end, _ = far.accept()
            with end:
                begun = time.monotonic()
                near.sendall(b"x" * 8_000)
                found = b""
                while len(found) < 8_000:
                    found += end.recv(8_000)
                assert time.monotonic() - begun >= 0.3, "200 ms for the bytes, 100 ms for the way"
                assert line.carried_bytes == 8_000
                line.cut.set()
                near.sendall(b"late")
                end.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    end.recv(9)
                line.cut.clear()
                end.settimeout(30)
                assert end.recv(9) == b"late"
        line.close()
    assert threading.active_count() < before + 10
