"""Faults of disks, control groups and processors; most need root. Each is found by the doctor. `make test-doctor`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from examined import Examined, examined
from faults import chat, many
from home_processes import processes_of
from served import Served, start_served
from waiting import eventually

from ashore.control.doctor.probes.machine import rows_of

pytestmark = pytest.mark.full
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make this fault")


# --- disks


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@root
def test_a_disk_that_is_full_read_only_or_has_no_inodes(tmp_path: Path) -> None:
    with mounted(tmp_path / "full", "size=8m,mode=700") as home:
        one = examined(home)
        assert not {"D301", "D315"} & set(one.findings(span_s=0.1))
        with open(home / "fill", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        found = one.findings(span_s=0.1)
        assert {"D301", "D315"} <= set(found) and found["D315"].severity == "critical"
    with mounted(tmp_path / "ro", "size=8m,mode=700") as home:
        one = examined(home)
        subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        assert {"D306", "D315"} <= set(one.findings(span_s=0.1))
    with mounted(tmp_path / "few", "size=8m,nr_inodes=40,mode=700") as home:
        one = examined(home)
        assert "D312" not in one.findings(span_s=0.1)
        with contextlib.suppress(OSError):
            for number in range(60):
                (home / f"file-{number}").touch()
        assert "D312" in one.findings(span_s=0.1)


@root
def test_a_home_in_a_layer_of_a_container(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=8m") as disk:
        for name in ("lower", "upper", "work", "home"):
            (disk / name).mkdir(mode=0o700)
        layers = ",".join(f"{name}dir={disk}/{name}" for name in ("lower", "upper", "work"))
        assert "D304" not in examined(disk / "home").findings(span_s=0.1)
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(disk / "home")], check=True)
        try:
            assert "overlay" in examined(disk / "home").findings(span_s=0.1)["D304"].what
        finally:
            subprocess.run(["umount", "-l", str(disk / "home")], check=True)


@root
def test_a_memory_disk_that_is_full(tmp_path: Path) -> None:
    script = (
        "mount -t tmpfs -o size=1m tmpfs /dev/shm && dd if=/dev/zero of=/dev/shm/x bs=1k count=950 2>/dev/null; "
        f"exec {sys.executable} -m ashore.cli.main doctor --only D208 --for 0s --json"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False,
        env={**os.environ, "ASHORE_HOME": str(tmp_path)},
    )  # fmt: skip
    assert [one["rule"] for one in json.loads(done.stdout)["items"]] == ["D208"], done.stderr


def test_a_disk_that_is_slow(tmp_path: Path) -> None:
    words = [
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=150000",
        sys.executable, "-m", "ashore.cli.main", "doctor", "--only", "D302", "--for", "0s", "--json",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, env={**os.environ, "ASHORE_HOME": str(tmp_path)}
        )
    except FileNotFoundError:
        pytest.skip("strace is not here")
    assert [one["rule"] for one in json.loads(done.stdout)["items"]] == ["D302"], done.stderr


# --- control groups


def group_of(controller: str) -> Path:
    """Return a new control group of version 1, or of version 2 where that rules here."""
    parent = Path("/sys/fs/cgroup") / controller
    if not parent.is_dir():
        pytest.skip("this machine has no control groups of version 1")
    group = parent / f"ashore-test-{os.getpid()}"
    group.mkdir(exist_ok=True)
    return group


@pytest.fixture
def bound(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[tuple[Served, Examined, dict[str, Path]]]:
    """Give a server in control groups of its own, without limits yet."""
    if os.geteuid() != 0:
        pytest.skip("only root makes control groups")
    groups = {name: group_of(name) for name in ("cpu", "memory", "pids")}
    enter = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in groups.values())
    config = '[[model]]\nname = "fake:random?tok_per_s=2000"\nalias = "m"\nreplicas = 2\n'
    running = start_served(
        tmp_path / "home", (), store=None, port=free_port(), grpc_port=free_port(), config=config,
        prefix=("sh", "-c", f'{enter}; exec "$@"', "sh"),
    )  # fmt: skip
    try:
        yield running, examined(running.home), groups
    finally:
        (groups["cpu"] / "cpu.cfs_quota_us").write_text("-1")
        (groups["memory"] / "memory.limit_in_bytes").write_text("-1")
        (groups["pids"] / "pids.max").write_text("max")
        running.stop()
        for group in groups.values():
            eventually(lambda group=group: not (group / "cgroup.procs").read_text())  # type: ignore[misc]
            group.rmdir()


def test_limits_of_control_groups(bound: tuple[Served, Examined, dict[str, Path]]) -> None:
    server, one, groups = bound
    assert not {"D102", "D202", "D212", "D502"} & set(one.findings())
    (groups["cpu"] / "cpu.cfs_quota_us").write_text("5000")
    before = one.look()
    many(16, lambda n: chat(server, "m", f"quota {n}", max_tokens=20, temperature=1).status_code)
    found = one.findings(before)["D102"]
    assert "0.05 processors" in found.cause
    (groups["cpu"] / "cpu.cfs_quota_us").write_text("-1")

    pids = int((groups["pids"] / "pids.current").read_text())
    (groups["pids"] / "pids.max").write_text(str(pids + 3))
    assert "D502" in one.findings()
    (groups["pids"] / "pids.max").write_text("max")

    before = one.look()
    used = int((groups["memory"] / "memory.usage_in_bytes").read_text())
    (groups["memory"] / "memory.limit_in_bytes").write_text(str(used + (64 << 20)))
    script = f"echo $$ > {groups['memory']}/cgroup.procs; exec {sys.executable} -c 'x = bytearray(600 << 20)'"
    hungry = subprocess.run(["sh", "-c", script], check=False, capture_output=True)
    assert hungry.returncode in (-9, 137)
    assert "D202" in one.findings(before)
    limit = groups["memory"] / "memory.limit_in_bytes"
    files = sum(rows_of(groups["memory"] / "memory.stat")[f"total_{kind}_file"] for kind in ("active", "inactive"))
    own = int((groups["memory"] / "memory.usage_in_bytes").read_text()) - files
    limit.write_text(str(own * 103 // 100))
    one.finds("D212")
    limit.write_text("-1")


def test_a_disk_that_a_control_group_keeps_away(tmp_path: Path, free_port: Callable[[], int]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes control groups")
    group = group_of("blkio")
    device = os.stat(tmp_path).st_dev
    running = start_served(
        tmp_path / "home", (), store=None, port=free_port(), grpc_port=free_port(),
        config='[[model]]\nname = "fake:echo"\nalias = "m"\n',
        prefix=("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"),
    )  # fmt: skip
    limit = group / "blkio.throttle.write_iops_device"
    try:
        one = examined(running.home)
        assert "D316" not in one.findings()
        limit.write_text(f"{os.major(device)}:{os.minor(device)} 3")
        assert "3 operations a second" in one.findings()["D316"].what
    finally:
        limit.write_text(f"{os.major(device)}:{os.minor(device)} 0")
        running.stop()
        eventually(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


# --- a real engine


def test_an_engine_that_computes_more_exactly_than_it_must_and_lets_prompts_hold_up_others(
    demo_home: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    config = (
        '[[model]]\nname = "fake:echo"\nalias = "made-up"\n'
        '[[model]]\nname = "smollm2@int8"\nalias = "m"\n'
        "[model.engine]\noptions = {full_precision = true, max_stall_ms = 60000, INFERENCE_NUM_THREADS = 16}\n"
    )
    running = start_served(
        tmp_path / "home", (), store=(demo_home / "store").resolve(), port=free_port(), grpc_port=free_port(),
        config=config, options=("--offline",),
    )  # fmt: skip
    try:
        one = examined(running.home)
        with ThreadPoolExecutor(3) as pool:
            for n in range(3):
                pool.submit(chat, running, "m", f"tell me a long story of {n}", max_tokens=400)
            found = one.finds("D627")
        assert "60 s" in found.what
        found_beside = one.findings()
        assert "full_precision" in found_beside["D611"].what and "made-up" in found_beside["D621"].what
        assert "16 threads" in found_beside["D101"].what
    finally:
        running.stop()


def test_an_engine_on_fewer_processors_than_threads(
    demo_home: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one processor")
    home = tmp_path / "home"
    shutil.copytree((demo_home / "store").resolve(), home / "store", copy_function=os.link)
    running = start_served(home, ("smollm2",), store=None, port=free_port(), grpc_port=free_port())
    all_of_them = os.sched_getaffinity(0)
    try:
        one = examined(home)
        assert not {"D101", "D113"} & set(one.findings())
        assert "D602" in one.findings(), "nobody measured it here"
        assert "D309" not in one.findings()
        for blob in (home / "store/blobs/sha256").iterdir():
            if blob.stat().st_size > 1 << 20:  # the manifests stay
                blob.unlink()
        assert one.findings()["D309"].severity == "critical"
        host = processes_of(home, "ashore.data.engines.host")[0]
        os.sched_setaffinity(host, {min(all_of_them)})
        assert "D113" in one.findings()
        os.sched_setaffinity(0, {min(all_of_them)})
        assert "threads on 1 processors" in one.findings()["D101"].what
    finally:
        os.sched_setaffinity(0, all_of_them)
        running.stop()
