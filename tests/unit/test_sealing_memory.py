"""Clear files in memory: immutable, found by name, refused without room, gone with their process."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ashore.core.errors import CorruptBlob, EnvironmentFault, MemoryFull, SealingKeyMissing
from ashore.kit.sealing import DataKey, new_data_key
from ashore.kit.sealing.clearfiles import (
    ClearFiles,
    KeyInMemory,
    SealedFile,
    SealedFiles,
    opened_files,
    refuse_without_memory,
    swap_in_use,
    take_key,
)
from ashore.kit.sealing.ownfolder import OwnFolder, sweep
from ashore.kit.sealing.scratch import is_on_tmpfs, memory_scratch
from ashore.kit.sealing.sealedfile import seal_file

CLEAR = {"model.gguf": b"weights" * 1000, "sub/config.json": b"{}", "empty": b""}
LATER_S = 4e9


def _sealed(folder: Path, key: DataKey, key_file: str = "") -> SealedFiles:
    files = []
    for number, (path, clear) in enumerate(CLEAR.items()):
        source, blob = folder / f"{number}.clear", folder / f"{number}.sealed"
        source.write_bytes(clear)
        header = seal_file(source, blob, key, sha256=hashlib.sha256(clear).hexdigest(), what=path)
        source.unlink()
        files.append(SealedFile(path=path, blob=str(blob), salt=header.salt.hex(), clear_bytes=len(clear)))
    return SealedFiles(
        reference="tiny", key_id=key.key_id, key_file=key_file, folder=str(folder / "run"), files=tuple(files)
    )


def test_files_are_found_by_name_in_memory_and_nobody_changes_them(tmp_path: Path) -> None:
    key = new_data_key()
    clear = ClearFiles(_sealed(tmp_path, key), key)
    for path, data in CLEAR.items():
        assert (clear.path / path).read_bytes() == data
        assert os.readlink(clear.path / path).startswith(f"/proc/{os.getpid()}/fd/")
        with pytest.raises(PermissionError), (clear.path / path).open("r+b") as file:
            os.write(file.fileno(), b"x")
    assert stat.S_IMODE(clear.path.stat().st_mode) == 0o700
    clear.drop(["model.gguf"])
    assert not (clear.path / "model.gguf").exists()
    assert (clear.path / "sub/config.json").read_bytes() == b"{}"
    clear.close()
    clear.close()
    assert not clear.path.exists()


def test_another_process_opens_them_with_the_key_that_this_one_holds(tmp_path: Path) -> None:
    key = new_data_key()
    held = KeyInMemory(key)
    sealed = _sealed(tmp_path, key, held.path)
    program = (
        "import sys, msgspec\nfrom ashore.kit.sealing.clearfiles import SealedFiles, opened_files\n"
        "sealed = msgspec.json.decode(sys.stdin.buffer.read(), type=SealedFiles)\n"
        "with opened_files(sealed) as clear:\n    sys.stdout.buffer.write((clear.path / 'model.gguf').read_bytes())"
    )
    import msgspec

    text = msgspec.json.encode(sealed)
    assert key.secret.hex().encode() not in text
    done = subprocess.run([sys.executable, "-c", program], input=text, capture_output=True, check=True)
    assert done.stdout == CLEAR["model.gguf"]
    assert take_key(sealed) == key
    held.close()
    with pytest.raises(SealingKeyMissing, match=r"the key is not at|instead of a key"), opened_files(sealed):
        pass


def test_a_file_that_does_not_open_leaves_nothing_behind(tmp_path: Path) -> None:
    key = new_data_key()
    sealed = _sealed(tmp_path, key)
    blob = Path(sealed.files[1].blob)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(CorruptBlob, match=r"sub/config.json of tiny: chunk 0"):
        ClearFiles(sealed, key)
    assert set(os.listdir("/proc/self/fd")) == before
    assert list((tmp_path / "run").iterdir()) == []


def test_without_memory_it_is_refused_with_figures() -> None:
    with pytest.raises(MemoryFull, match=r"needs 1\.0+ EiB|needs .* of memory when opened; .* are free"):
        refuse_without_memory(1 << 60, what="tiny")


def test_folders_of_killed_processes_are_swept_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    mine = OwnFolder(tmp_path, ".clear-")
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom ashore.kit.sealing.ownfolder import OwnFolder\n"
        "f = OwnFolder(Path(sys.argv[1]), '.clear-')\nprint(f.path, flush=True)\ntime.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    path = Path(other.stdout.readline().strip())
    assert sweep(tmp_path, ".clear-", now_s=LATER_S) == 0
    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdout.close()
    assert path.exists()
    assert sweep(tmp_path, ".clear-") == 0, "a young folder may not be locked yet"
    assert sweep(tmp_path, ".clear-", now_s=LATER_S) == 1
    assert not path.exists()
    assert mine.path.exists()
    mine.close()


def test_links_and_what_they_lead_to_are_never_swept(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.mkdir()
    (target / "file").write_text("x")
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "ashore-scratch-x").symlink_to(target)
    assert sweep(tmp_path / "place", "ashore-scratch-", now_s=LATER_S) == 0
    assert (target / "file").exists()


def test_scratch_lies_in_memory_and_goes_away(tmp_path: Path) -> None:
    with memory_scratch(1 << 20, what="a variant") as folder:
        assert is_on_tmpfs(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "x").write_bytes(b"clear")
    assert not folder.exists()
    with pytest.raises(MemoryFull, match=r"needs .* in memory"), memory_scratch(1 << 60, what="a variant"):
        pass


def test_a_place_that_is_a_disk_is_refused_though_its_name_is_on_a_tmpfs(tmp_path: Path) -> None:
    """What counts is where the folder really is: a link of that name proves nothing."""
    disk, shm = tmp_path / "disk", tmp_path / "shm"
    disk.mkdir()
    shm.mkdir()
    (shm / "inside").symlink_to(disk)
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"20 1 8:1 / / rw - ext4 /dev/sda1 rw\n21 20 0:5 / {shm.resolve()} rw,nosuid - tmpfs tmpfs rw\n"
        f"22 20 8:2 / {disk.resolve()} rw - ext4 /dev/sdb1 rw\n"
    )
    assert is_on_tmpfs(shm, mounts)
    assert not is_on_tmpfs(shm / "inside", mounts)
    looked = memory_scratch(1, what="a variant", places=[disk, shm / "inside"], mounts=mounts)
    with pytest.raises(EnvironmentFault, match="is on a writable tmpfs"), looked:
        pass


def test_swap_is_told_and_compressed_memory_is_not_swap(tmp_path: Path) -> None:
    table = tmp_path / "swaps"
    table.write_text("Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n/dev/zram0 partition 1 0 5\n")
    assert swap_in_use(table) == ("/dev/sda2",)
    assert swap_in_use(tmp_path / "absent") == ()


def test_a_process_with_keys_leaves_no_memory_in_a_core_dump() -> None:
    program = (
        "from ashore.kit.processes import forbid_core_dumps\nforbid_core_dumps()\nimport resource\n"
        "print(open('/proc/self/coredump_filter').read().strip(), *resource.getrlimit(resource.RLIMIT_CORE))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["00000000", "0", "0"]
