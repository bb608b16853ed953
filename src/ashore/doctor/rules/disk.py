"""Disks and the file systems below the home."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.core import human_bytes, human_seconds
from ashore.doctor.model import Finding, evidence
from ashore.doctor.readings import Readings
from ashore.doctor.rule import rule

FULL_SHARE: Final = 0.05
FULL_BYTES: Final = 2 << 30
"""A disk is nearly full below this share or this many bytes; of one that is smaller than that, the share counts."""
SMALL_BYTES: Final = 20 << 30
FEW_FILES: Final = 0.05
SLOW_FSYNC_MS: Final = 100.0
FEW_OPERATIONS: Final = 100
FEW_BYTES: Final = 5 << 20
"""What a slow hard disk does in a second."""
NETWORK_KINDS: Final = frozenset(("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "fuse.glusterfs"))
LAYERED_KINDS: Final = frozenset(("overlay", "aufs"))


@rule("D301", "disk", "Is a disk nearly full?", needs=("places",), explains=("D208", "D315", "D600", "D613"), down=True)
def full(seen: Readings) -> Iterator[Finding]:
    told: set[tuple[str, int]] = set()
    for one in seen.places:
        if not one.total_bytes or (one.device, one.total_bytes) in told:
            continue
        least = FULL_SHARE * one.total_bytes
        if one.total_bytes > SMALL_BYTES:
            least = max(least, FULL_BYTES) if one.total_bytes < 40 * FULL_BYTES else FULL_BYTES
        if one.free_bytes < least:
            told.add((one.device, one.total_bytes))
            fills = f"; at this rate it is full in {human_seconds(one.fills_in_s)}" if one.fills_in_s else ""
            empty = one.free_bytes < 0.005 * one.total_bytes
            yield Finding(
                severity="critical" if empty or one.name in ("home", "audit") else "warning",
                what=f"the disk of {one.name} is nearly full: {human_bytes(one.free_bytes)} of "
                f"{human_bytes(one.total_bytes)} are free{fills}",
                cause="without room nothing can be recorded, and what cannot be recorded is not answered",
                evidence=(
                    evidence("free", human_bytes(one.free_bytes), human_bytes(int(least))),
                    evidence("models on it that nothing uses", human_bytes(seen.stored.garbage_bytes)),
                ),
                sure="certain",
                remedy="delete what nothing uses; move old audit records to an archive",
                commands=("ashore model gc", "ashore audit archive --dry-run", f"du -xh {one.path} | sort -h | tail"),
            )


@rule(
    "D302",
    "disk",
    "Does the disk of the home take long to keep what was written?",
    needs=("disk.fsync_ms",),
    explains=("D804",),
    source="SQLite and the audit log wait for fsync",
    down=True,
)
def slow_fsync(seen: Readings) -> Iterator[Finding]:
    if seen.disk.fsync_ms > SLOW_FSYNC_MS:
        yield Finding(
            severity="warning",
            what=f"a small write to the home took {seen.disk.fsync_ms:.0f} ms until it was safe",
            cause="the disk is slow or busy; the audit log and the state wait for each write",
            evidence=(
                evidence(
                    "write and fsync of 4 KiB, median of eight",
                    f"{seen.disk.fsync_ms:.0f} ms",
                    f"{SLOW_FSYNC_MS:.0f} ms",
                ),
            ),
            sure="likely",
            remedy="put the home on a local SSD, or find who writes to this disk",
            commands=("iotop -o", "cat /proc/pressure/io"),
            wrong_remedy="[audit] durability could hide it, but then records are lost when the machine loses power",
        )


@rule(
    "D304",
    "disk",
    "Does the home lie on a file system that is not a disk's own?",
    needs=("places",),
    down=True,
    source="SQLite: file locking and fsync of network file systems are not to be trusted",
)
def not_a_disk(seen: Readings) -> Iterator[Finding]:
    for one in seen.places:
        if one.name == "home" and one.kind in NETWORK_KINDS | LAYERED_KINDS:
            network = one.kind in NETWORK_KINDS
            yield Finding(
                severity="warning" if network else "advice",
                what=f"the home lies on {one.kind}",
                cause="locks and fsync of a network file system do not hold what SQLite relies on"
                if network
                else "what is written into a container's own layer is gone with the container",
                evidence=(evidence("file system", one.kind, "ext4, xfs, btrfs, zfs"),),
                sure="certain",
                remedy="put the home on a local disk" if network else "mount a volume for the home",
                commands=("ashore backup init --nodes …  # copies to network places are made by the backup",)
                if network
                else ("# deploy: a volume for ASHORE_HOME",),
            )


@rule(
    "D305",
    "disk",
    "Did the kernel report faults of a disk?",
    needs=("log.disk_faults",),
    explains=("D302", "D306"),
    down=True,
)
def disk_faults(seen: Readings) -> Iterator[Finding]:
    if seen.log.disk_faults:
        yield Finding(
            severity="critical",
            what=f"the kernel reported a fault of a disk: {seen.log.disk_faults[-1]}",
            cause="the disk or its cable fails",
            evidence=(evidence("messages", len(seen.log.disk_faults), 0),),
            sure="likely",
            remedy="look at its SMART values, see that the backup is recent, replace it",
            commands=("smartctl -a /dev/DISK", "ashore backup status"),
        )


@rule(
    "D306",
    "disk",
    "Can the home not be written?",
    needs=("places",),
    explains=("D315", "D600", "D613"),
    down=True,
)
def read_only(seen: Readings) -> Iterator[Finding]:
    for one in seen.places:
        if one.read_only:
            yield Finding(
                severity="critical",
                what=f"the file system of {one.name} is read-only ({one.path})",
                cause="it was mounted so, or the kernel made it so after a fault of the disk",
                evidence=(evidence("mounted", "read-only", "read-write"),),
                sure="certain",
                remedy="see in the kernel's log why; then check and mount it again",
                commands=("dmesg | grep -i 'remount\\|I/O error' | tail", f"mount -o remount,rw {one.path}"),
            )


@rule("D312", "disk", "Are there too few inodes left for new files?", needs=("places",), down=True)
def few_inodes(seen: Readings) -> Iterator[Finding]:
    for one in seen.places:
        if one.free_files_share < FEW_FILES:
            yield Finding(
                severity="critical" if one.free_files_share < 0.01 else "warning",
                what=f"{one.free_files_share:.1%} of the inodes of {one.name} are free",
                cause="many small files fill the table of files although there is room",
                evidence=(evidence("free inodes", f"{one.free_files_share:.1%}", f"{FEW_FILES:.0%}"),),
                sure="certain",
                remedy="find the folder with many files, and delete them",
                commands=(f"du --inodes -x {one.path} | sort -n | tail",),
            )


@rule("D313", "disk", "Do logs fill the disk?", needs=("stored.logs_bytes",), down=True)
def long_logs(seen: Readings) -> Iterator[Finding]:
    if seen.stored.logs_bytes > 2 << 30:
        yield Finding(
            severity="warning",
            what=f"the logs of the home take {human_bytes(seen.stored.logs_bytes)}",
            cause="a process says the same thing again and again, or a log is not rotated",
            evidence=(evidence("logs", human_bytes(seen.stored.logs_bytes), "2 GiB"),),
            sure="certain",
            remedy="see which log grows and what it says",
            commands=("ls -lhS logs/ | head", "ashore logs"),
        )


@rule(
    "D315",
    "disk",
    "Does the system refuse to write to the home?",
    needs=("disk.write_error",),
    explains=("D600", "D613"),
    down=True,
)
def cannot_write(seen: Readings) -> Iterator[Finding]:
    if seen.disk.write_error:
        yield Finding(
            severity="critical",
            what=f"the home cannot be written: {seen.disk.write_error}",
            cause="a full disk, a quota, a read-only file system or missing rights",
            evidence=(evidence("a write of 4 KiB", seen.disk.write_error, "no error"),),
            sure="certain",
            remedy="make it writable; the server records and answers again by itself",
            commands=("df -h .", "df -i .", "ashore status"),
        )


@rule(
    "D316",
    "disk",
    "Does a control group keep the server from its disk?",
    needs=("groups",),
    explains=("D600", "D613", "D804"),
    source="kernel documentation: io.max; blkio.throttle of version 1. The doctor itself is not in that group",
)
def bounded_disk(seen: Readings) -> Iterator[Finding]:
    for one in seen.groups:
        few = 0 < one.disk_operations_per_s < FEW_OPERATIONS
        if few or 0 < one.disk_bytes_per_s < FEW_BYTES:
            limit = (
                f"{one.disk_operations_per_s:g} operations a second"
                if few
                else f"{human_bytes(int(one.disk_bytes_per_s))} a second"
            )
            yield Finding(
                severity="warning",
                what=f"the control group {one.path} lets the server have {limit} of a disk",
                cause="each audit record and each change of the state is a write that must be safe before an answer",
                evidence=(
                    evidence("operations a second", f"{one.disk_operations_per_s:g}" if few else "any", FEW_OPERATIONS),
                    evidence(
                        "bytes a second",
                        human_bytes(int(one.disk_bytes_per_s)) if one.disk_bytes_per_s else "any",
                        human_bytes(FEW_BYTES),
                    ),
                ),
                sure="certain",
                remedy="raise the limit of the unit or the container",
                commands=("systemctl edit ashore  # [Service] IOReadIOPSMax=, IOWriteIOPSMax=, IOWriteBandwidthMax=",),
            )


@rule("D208", "memory", "Is a file system in memory nearly full?", needs=("places",), down=True)
def full_shm(seen: Readings) -> Iterator[Finding]:
    home = next((one.device for one in seen.places if one.name == "home"), "")  # D301 judges what lies on that
    for one in seen.places:
        apart = one.name != "home" and (not home or one.device != home)
        if one.kind == "tmpfs" and apart and one.total_bytes and one.free_bytes < 0.2 * one.total_bytes:
            yield Finding(
                severity="warning",
                what=f"{one.path} is {1 - one.free_bytes / one.total_bytes:.0%} full",
                cause="files there are memory; engines and Python need some of it to start",
                evidence=(evidence("free", human_bytes(one.free_bytes), human_bytes(one.total_bytes // 5)),),
                sure="certain",
                remedy="delete what lies there, or make it larger (shm_size of a container)",
                commands=(f"ls -lhS {one.path} | head", f"mount -o remount,size={2 * one.total_bytes} {one.path}"),
            )
