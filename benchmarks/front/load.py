"""The load generator of `load.c`, compiled where a C compiler is, and what it says."""

from __future__ import annotations

import json
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

HERE = Path(__file__).parent
SERIAL = "@" * 12
"""Stands for a number that differs in each request sent."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of times."""

    count: int = 0
    mean_ms: float = 0.0
    p50_ms: float = 0.0
    p90_ms: float = 0.0
    p99_ms: float = 0.0
    p999_ms: float = 0.0
    max_ms: float = 0.0


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of the generator saw, after its warm-up."""

    sent: int
    """With the warm-up."""
    answered: int
    seconds: float
    statuses: dict[str, int]
    failed: dict[str, int]
    ok: Spread
    """Answers below 300, from when each request was due."""
    refused: Spread
    """All other answers."""
    lateness: Spread
    """From due to sent: what a slow generator, or a want of free connections, adds."""
    refused_after_sent: Spread = Spread()
    """All other answers, from when each request was sent."""
    closed_after_idle: Spread = Spread()
    """How long a connection had been idle before a request on which it was closed."""
    first_piece: Spread = Spread()
    gaps: Spread = Spread()
    worst_gaps: Spread = Spread()
    """The longest gap of each stream."""
    frames: int = 0
    stalled: int = 0
    """Streams with a gap above 200 ms."""
    marked: int = 0
    """Answers whose head holds the mark."""
    most_queued: int = 0
    bytes_read: int = 0
    cpu_s: float = 0.0
    """Of the generator, its warm-up included."""
    held_up_s: float = 0.0
    """Seconds in which the generator could have run, and had no processor."""

    @property
    def per_s(self) -> float:
        """Good answers a second."""
        return self.ok.count / self.seconds if self.seconds else 0.0

    @property
    def num_errors(self) -> int:
        """Requests without a good answer."""
        return sum(self.failed.values()) + self.refused.count

    def plain(self) -> dict[str, object]:
        """Return it for the raw record."""
        return dict(msgspec.to_builtins(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The compiled programs."""

    load: Path
    upstream: Path
    stalls: Path
    compiler: str


class NoCompiler(RuntimeError):
    """The load generator cannot be built here."""


def build(folder: Path) -> Tools:
    """Compile the programs into `folder`, with TLS where OpenSSL's headers are.

    Raises:
        NoCompiler: there is no `cc`, or it fails.
    """
    base = ["cc", "-O2", "-o"]
    load, upstream, stalls = folder / "load", folder / "upstream", folder / "stalls"
    try:
        version = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout
        subprocess.run([*base, str(upstream), str(HERE / "upstream.c")], check=True)
        subprocess.run([*base, str(stalls), str(HERE / "stalls.c"), "-lpthread"], check=True)
        with_tls = [*base, str(load), "-DWITH_TLS", str(HERE / "load.c"), "-lm", "-lssl", "-lcrypto"]
        if subprocess.run(with_tls, capture_output=True, check=False).returncode:
            subprocess.run([*base, str(load), str(HERE / "load.c"), "-lm"], check=True)
    except (OSError, subprocess.CalledProcessError) as fault:
        raise NoCompiler(f"the load generator needs a C compiler called cc: {fault}") from fault
    return Tools(load=load, upstream=upstream, stalls=stalls, compiler=version.splitlines()[0])


def post(path: str, body: object, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Return one whole request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: bench", "content-type: application/json", f"content-length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def run_load(
    tools: Tools,
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    seconds: float = 10.0,
    count: int = 0,
    warmup_s: float = 1.0,
    rate_per_s: float = 0.0,
    even: bool = False,
    tls: bool = False,
    stream: bool = False,
    timeout_s: float = 60.0,
    mark: str = "",
    idle_s: float = 60.0,
    first_serial: int = 1,
) -> Load:
    """Put load on 127.0.0.1.

    Args:
        tools: From `build`.
        port: Where.
        requests: Sent in turn.
        connections: Kept open; with no rate, each sends its next request when its answer is there.
        seconds: Measured, after the warm-up.
        count: Requests after which it ends; 0: after the seconds.
        warmup_s: Not measured.
        rate_per_s: Open loop: requests fall due at this rate, whatever the answers do.
        even: At even distances; otherwise as a Poisson process.
        tls: Speak TLS; certificates are not checked.
        stream: Time the pieces of each answer.
        timeout_s: After which a client gives up.
        mark: Counted in the heads of answers, in any case.
        idle_s: A connection that was idle for longer is opened again before it is used.
        first_serial: For `SERIAL`.
    """
    with tempfile.NamedTemporaryFile(suffix=".requests") as file:
        for one in requests:
            file.write(struct.pack("<I", len(one)) + one)
        file.flush()
        words = [str(tools.load), "--port", str(port), "--requests", file.name, "--connections", str(connections)]
        words += ["--seconds", str(seconds if not count else 86_400), "--warmup", str(warmup_s)]
        words += ["--timeout", str(timeout_s), "--idle", str(idle_s), "--serial", str(first_serial)]
        words += ["--count", str(count)] if count else []
        words += ["--rate", str(rate_per_s)] if rate_per_s else []
        words += ["--poisson"] if rate_per_s and not even else []
        words += ["--tls"] if tls else []
        words += ["--stream"] if stream else []
        words += ["--mark", mark] if mark else []
        done = subprocess.run(words, capture_output=True, check=False)
        if done.returncode:
            raise SystemExit(f"the load generator ended with {done.returncode}: {done.stderr.decode()[-300:]}")
    return msgspec.json.decode(done.stdout, type=Load)
