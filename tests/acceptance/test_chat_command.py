"""`ashore chat` and `ashore bench serve` as a user runs them, against `ashore up` with the fake engine."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from served import Served

MAIN = [sys.executable, "-m", "ashore.cli.main"]


class Terminal:
    """A chat in a terminal of its own."""

    def __init__(self, home: Path, *words: str) -> None:
        self.master, slave = pty.openpty()
        env = {**os.environ, "ASHORE_HOME": str(home), "TERM": "xterm"}
        self.process = subprocess.Popen(
            [*MAIN, "chat", *words], stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True,
            preexec_fn=lambda: take_terminal(slave),
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self.seen!r}"
            if select.select([self.master], [], [], min(left, 0.5))[0]:
                self.seen += os.read(self.master, 4096).decode(errors="replace")
        self.seen = self.seen.split(text, 1)[1]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


def take_terminal(slave: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def test_in_a_terminal_ctrl_c_stops_the_answer_and_not_the_program(served: Callable[..., Served]) -> None:
    one = served("fake:echo?tok_per_s=4")
    terminal = Terminal(one.home, "--stats")
    try:
        terminal.expect("/help")
        terminal.expect(">>> ")
        terminal.type("0123456789" * 6 + "\n")
        terminal.expect("9\r\n")  # what was typed
        terminal.expect("012")  # what is answered, a character each 250 ms
        terminal.type("\x03")
        terminal.expect("(stopped)")
        terminal.type("/system be brief\n")
        terminal.expect("system prompt: be brief")
        terminal.type("hi\n")
        terminal.expect("tok/s")
        terminal.type("/exit\n")
        assert terminal.process.wait(60) == 0
    finally:
        terminal.close()
    history = one.home / "chat-history"
    assert "be brief" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_a_pipe_is_one_question_and_bench_measures(
    served: Callable[..., Served], ashore: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    one = served("fake:echo")
    env = {**os.environ, "ASHORE_HOME": str(one.home)}
    said = subprocess.run([*MAIN, "chat"], input="hello\n", capture_output=True, text=True, env=env, timeout=60)
    assert (said.returncode, said.stdout, said.stderr) == (0, "hello\n", "")
    wrong = subprocess.run([*MAIN, "chat", "fake:ecko"], input="x", capture_output=True, text=True, env=env, timeout=60)
    assert wrong.returncode == 2 and "fake:echo" in wrong.stderr

    file = tmp_path / "report.json"
    words = [
        "bench",
        "serve",
        "--concurrency",
        "4",
        "--requests",
        "12",
        "--output-tokens",
        "8",
        "--slo-ttft-ms",
        "9000",
    ]
    done = ashore(*words, "--json", str(file), home=one.home)
    assert done.returncode == 0, done.stderr
    assert "12 of 12 answered" in done.stdout and "goodput" in done.stdout
    report = json.loads(file.read_text())
    assert (report["sent"], report["succeeded"], report["completion_tokens"]) == (12, 12, 96)
    plain = ashore(
        "bench", "serve", one.base_url, "--concurrency", "6", "--requests", "6", "--json", "-", home=one.home
    )
    assert json.loads(plain.stdout)["sent"] == 6


@pytest.mark.parametrize("words", [("chat",), ("bench", "serve")])
def test_with_nothing_running_the_next_step_is_said(
    ashore: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = ashore(*words, home=tmp_path)
    assert done.returncode == 4
    assert "no server is running from" in done.stderr and "ashore up" in done.stderr
