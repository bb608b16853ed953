"""The example `imaging`: nothing that identifies a patient leaves, and files that lie are refused."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import pydicom
import pytest
from cryptography.exceptions import InvalidTag
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def imaging(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ("imaging", "imaging.run", "imaging.deidentify"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return import_module("imaging.run")


def small(**more: Any) -> Dataset:
    """Return a CT of one patient, whose name is Grace Hopper."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4", "1.2.3"
    ds.Modality, ds.PatientName, ds.PatientID = "CT", "Hopper^Grace", "4711-0815"
    for name, value in more.items():
        setattr(ds, name, value)
    return ds


def write(path: Path, ds: Dataset, syntax: str = ExplicitVRLittleEndian, behind: bytes = b"") -> Path:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(out := io.BytesIO(), enforce_file_format=True)
    path.write_bytes(out.getvalue() + behind)
    return path


def pixels(length: int, content: bytes, vr: bytes = b"OW") -> bytes:
    return struct.pack("<HH2sHI", 0x7FE0, 0x0010, vr, 0, length) + content


@pytest.fixture
def run(imaging: Any, tmp_path: Path) -> Any:
    """De-identify a file into `clean`; returns what it became and its bytes."""

    def once(source: Path) -> tuple[Any, bytes]:
        (tmp_path / "clean").mkdir(exist_ok=True)
        done = imaging.deidentify(source, tmp_path / "clean", imaging.Cleaner(key=b"k" * 32))
        return done, done.path.read_bytes() if done.path else b""

    return once


@pytest.mark.parametrize("number", [0, 1, 2, 6])
def test_nothing_planted_in_any_attribute_of_the_profile_is_left(
    imaging: Any, run: Any, tmp_path: Path, number: int
) -> None:
    imaging.write_planted(number, tmp_path / "in.dcm")
    done, content = run(tmp_path / "in.dcm")
    assert imaging.hits(content) == 0 and content[:128] == bytes(128)
    clean, before = pydicom.dcmread(done.path), imaging.planted(number)
    assert imaging.left_behind(clean, before) == []
    assert clean.PixelData == before.PixelData and clean.ConvolutionKernel == "B30f"
    assert imaging.hits(b"".join(str(one).encode() for one in before)) > 400, "the search finds what is there"


def test_every_real_file_of_pydicom_is_clean_held_back_or_refused(
    imaging: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imaging, "PACKAGES", ("pydicom",))
    rows = imaging.clean_real(tmp_path, imaging.Cleaner(key=b"k" * 32))
    outcomes = [row[2].partition(":")[0] for row in rows]
    assert len(rows) > 60 and set(outcomes) == {"passed", "held back", "refused"}
    assert outcomes.count("passed") > 20 and sum(row[3] for row in rows) == 0
    assert not list(tmp_path.iterdir()), "half a file is left behind"


def test_one_patient_stays_one_patient_and_keeps_the_days_between(imaging: Any, run: Any, tmp_path: Path) -> None:
    one, _ = run(write(tmp_path / "1.dcm", small(StudyDate="20240229", StudyTime="081500")))
    two, _ = run(write(tmp_path / "2.dcm", small(StudyDate="20240307", SOPInstanceUID="1.2.3.5")))
    a, b = pydicom.dcmread(one.path), pydicom.dcmread(two.path)
    assert a.PatientID == b.PatientID and a.StudyInstanceUID == b.StudyInstanceUID and one.path != two.path
    days = [pydicom.valuerep.DA(each.StudyDate) for each in (a, b)]
    assert (days[1] - days[0]).days == 7 and str(days[0]) != "20240229" and not a.StudyTime


def test_a_name_where_the_profile_does_not_look(run: Any, tmp_path: Path) -> None:
    nested = Dataset()
    nested.CodeMeaning = "follow-up of HOPPER"
    ds = small(Manufacturer="for Grace", ConvolutionKernel="B30f", ReferencedImageSequence=[nested], KVP="120")
    ds.add_new(0x00090010, "LO", "ACME")
    ds.add_new(0x00091001, "LO", "Hopper")
    ds.add_new(0x00280002, "LO", "Hopper")  # samples per pixel, which are a number
    ds.add_new(0x00189999, "UN", b"Hopper")
    behind = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 6) + b"Hopper"
    done, content = run(write(tmp_path / "in.dcm", ds, behind=pixels(4, b"1234") + behind))
    assert b"HOPPER" not in content.upper() and b"Grace" not in content
    clean = pydicom.dcmread(done.path)
    assert clean.PixelData == b"1234" and clean.ConvolutionKernel == "B30f" and clean.KVP == 120


def test_a_name_or_a_path_in_a_uid_goes(run: Any, tmp_path: Path) -> None:
    uid = "1.2.840.10008.1/../../Hopper"
    done, content = run(
        write(tmp_path / "in.dcm", small(SOPInstanceUID=uid, StudyInstanceUID=[uid, "1.2.840.10008.1.1"]))
    )
    assert done.path.parent == tmp_path / "clean" and b"Hopper" not in content
    studies = pydicom.dcmread(done.path).StudyInstanceUID
    assert studies[0].startswith("2.25.") and studies[1] == "1.2.840.10008.1.1", "a UID of the standard stays"


def test_comments_inside_compressed_frames_are_blanked(run: Any, tmp_path: Path) -> None:
    frame = b"\xff\xd8\xff\xfe\x00\x08Hopper\xff\xe1\x00\x08Hopper\xff\xda\x00\x02data\xff\xd9"
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(one)) + one for one in (b"", frame))
    items += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    done, content = run(write(tmp_path / "in.dcm", small(), JPEGBaseline8Bit, pixels(0xFFFFFFFF, items, b"OB")))
    assert b"Hopper" not in content and b"\xff\xda\x00\x02data" in content
    assert len(pydicom.dcmread(done.path).PixelData) == len(items) - 8


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned in"),
        ({"Modality": "US"}, "write into the picture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, "document"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.2"}, "screen"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "report"),
    ],
)
def test_what_may_have_text_in_its_pixels_is_held_back(
    run: Any, tmp_path: Path, more: dict[str, str], said: str
) -> None:
    done, _ = run(write(tmp_path / "in.dcm", small(**more), behind=pixels(4, b"1234")))
    assert done.path is None and said in done.held and not list((tmp_path / "clean").iterdir())


def lying_header() -> bytes:
    return struct.pack("<HH2sHI", 0x0029, 0x1010, b"OB", 0, 0xFFFFFFF0) + b"short"


@pytest.mark.parametrize(
    ("behind", "said"),
    [
        (pixels(0xFFFFFFF0, b"1234"), "the pixels say that they have 4,294,967,280 bytes, but the file has 4"),
        (lying_header(), "says that it has 4,294,967,280 bytes, but the file has only 5 more"),
        (pixels(0xFFFFFFFF, b"\xfe\xff\x00\xe0\xff\xff\xff\x7f", b"OB"), "the pixels say"),
        (pixels(0xFFFFFFFF, b"", b"OB"), "do not end"),
        (pixels(4, b"1234") + lying_header(), "says that it has"),
    ],
    ids=["pixels", "element", "frame", "no end", "behind the pixels"],
)
def test_a_file_that_lies_about_its_length_is_refused(
    imaging: Any, run: Any, tmp_path: Path, behind: bytes, said: str
) -> None:
    with pytest.raises(imaging.RefusedFile, match=said):
        run(write(tmp_path / "in.dcm", small(), behind=behind))
    assert not list((tmp_path / "clean").iterdir())


def deflated(content: bytes) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeeze.compress(content) + squeeze.flush()


def test_bombs_and_strangers_are_refused(
    imaging: Any, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write(tmp_path / "in.dcm", small(), DeflatedExplicitVRLittleEndian).read_bytes()
    start = 144 + struct.unpack("<I", whole[140:144])[0]
    (tmp_path / "bomb.dcm").write_bytes(whole[:start] + deflated(bytes(2 << 20)))
    monkeypatch.setattr(sys.modules["imaging.deidentify"], "INFLATED_BYTES", 1 << 20)
    with pytest.raises(imaging.RefusedFile, match="a bomb"):
        run(tmp_path / "bomb.dcm")
    (tmp_path / "torn.dcm").write_bytes(whole[:start] + b"\xff\xff\xff")
    with pytest.raises(imaging.RefusedFile, match="broken"):
        run(tmp_path / "torn.dcm")
    (tmp_path / "text.dcm").write_text("Grace Hopper " * 20)
    with pytest.raises(imaging.RefusedFile, match="DICM is missing"):
        run(tmp_path / "text.dcm")
    monkeypatch.setattr(sys.modules["imaging.deidentify"], "MOST_READS", 200)
    with pytest.raises(imaging.RefusedFile, match=r"more than 200 elements|No tag to read"):
        run(write(tmp_path / "in.dcm", small(IconImageSequence=[Dataset() for _ in range(200)])))
    flat = small()
    for at in range(0x1000, 0x1000 + 220):
        flat.add_new((0x0009, at), "LO", "")
    with pytest.raises(imaging.RefusedFile, match="more than 200 elements"):
        run(write(tmp_path / "in.dcm", flat))
    monkeypatch.setattr(sys.modules["imaging.deidentify"], "HEADER_BYTES", 1000)
    with pytest.raises(imaging.RefusedFile, match="in front of the pixels"):
        run(
            write(
                tmp_path / "in.dcm", small(IconImageSequence=[Dataset()], PixelPaddingValue=0, ICCProfile=bytes(2000))
            )
        )


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        (b"\x02\0\x10\0UI", b"\x02\0\x10\0UX"),
        (b"\x08\0\x16\0UI", b"\x08\0\x16\0U\x9b"),
        (b"ISO_IR 100", b"ISO\0IR 100"),
        (b"\x28\0\x10\0US\x02\0", b"\x28\0\x10\0US\x03\0"),
        (b"\x40\x11SQ\0\0", b"\x40\x11SQ\0\xff"),
    ],
)
def test_a_broken_value_is_refused_or_removed(
    imaging: Any, run: Any, tmp_path: Path, there: bytes, instead: bytes
) -> None:
    imaging.write_planted(0, tmp_path / "whole.dcm")
    whole = (tmp_path / "whole.dcm").read_bytes()
    assert there in whole
    (tmp_path / "in.dcm").write_bytes(whole.replace(there, instead, 1))
    try:
        _, content = run(tmp_path / "in.dcm")
        assert imaging.hits(content) == 0
    except imaging.RefusedFile:
        assert not list((tmp_path / "clean").iterdir())


def test_the_table_that_leads_back_is_sealed(imaging: Any, run: Any, tmp_path: Path) -> None:
    cleaner = imaging.Cleaner(key=b"k" * 32)
    (tmp_path / "clean").mkdir()
    done = imaging.deidentify(write(tmp_path / "in.dcm", small()), tmp_path / "clean", cleaner)
    imaging.seal_table(cleaner, tmp_path / "table")
    assert b"Hopper" not in (tmp_path / "table").read_bytes()
    assert "Hopper^Grace" in imaging.open_table(b"k" * 32, tmp_path / "table")[done.who]
    with pytest.raises(InvalidTag):
        imaging.open_table(b"x" * 32, tmp_path / "table")


def test_a_model_cannot_write_a_finding_into_a_draft(imaging: Any) -> None:
    schema = imaging.draft_schema(small(StudyDate="20230101"))
    assert set(schema["properties"]) == {"examination", "technique", "findings", "note"} == set(schema["required"])
    assert all(set(one) <= {"const", "enum"} for one in schema["properties"].values())
