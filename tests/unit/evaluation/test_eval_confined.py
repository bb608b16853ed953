"""Programs of unknown hands: what they may do, and what the kernel does not let them do."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from ashore.evaluation import ConfinedRunner, Program, open_task

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seccomp and Landlock are Linux's")


def passes(*texts: str, timeout_s: float = 5.0) -> list[bool]:
    return ConfinedRunner(at_once=2).run([Program(text=text, timeout_s=timeout_s) for text in texts])


def test_right_and_wrong_are_told_apart() -> None:
    assert passes(
        "import math, json, re, collections\nassert math.isqrt(16) == 4",
        "assert False",
        "def broken(:",
        "raise SystemExit(0)",
        "import os; os._exit(0)",
        "print('x' * 10**6)",
    ) == [True, False, False, False, False, True]


def refused(*statements: str) -> list[bool]:
    """Tell of each statement whether it raises `OSError` (or what comes of one) in confinement."""
    return passes(
        *(
            f"try:\n    {statement}\nexcept (OSError, RuntimeError, MemoryError):\n    pass\nelse:\n    raise Exception"
            for statement in statements
        )
    )


def test_there_is_no_network_and_no_other_program(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    assert (
        refused(
            "import socket; socket.socket()",
            "import socket; socket.create_connection(('127.0.0.1', 9))",
            "import socket; socket.socketpair()",
            "import subprocess; subprocess.run(['/bin/true'])",
            "import os; os.fork()",
            "import os; os.execv('/bin/true', ['true'])",
            f"import os; os.kill({os.getpid()}, 0)",
            "import threading; threading.Thread(target=print).start()",
            "bytearray(4 << 30)",
            "open('big', 'wb').write(bytes(8 << 20))",
        )
        == [True] * 10
    )


def landlock() -> bool:
    return (
        "landlock" in Path("/sys/kernel/security/lsm").read_text()
        if Path("/sys/kernel/security/lsm").exists()
        else False
    )


@pytest.mark.skipif(not landlock(), reason="this kernel has no Landlock")
def test_files_elsewhere_are_out_of_reach(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("kept")
    assert refused(
        f"open({str(secret)!r}).read()", f"open({str(secret)!r}, 'w')", f"import os; os.unlink({str(secret)!r})",
        "open('/etc/passwd').read()",
    ) == [True] * 4  # fmt: skip
    assert secret.read_text() == "kept"
    assert passes("open('mine', 'w').write('x')\nassert open('mine').read() == 'x'") == [True]


def test_one_that_never_ends_is_ended() -> None:
    started_s = time.monotonic()
    assert passes("while True: pass", "import time; time.sleep(1000)", timeout_s=1.0) == [False, False]
    assert time.monotonic() - started_s < 30


def test_nothing_is_left_behind() -> None:
    import tempfile

    before = set(os.listdir(tempfile.gettempdir()))
    passes("open('left', 'w').write('x')", "assert False")
    assert not [name for name in set(os.listdir(tempfile.gettempdir())) - before if name.startswith("ashore-program-")]


def test_the_shipped_problems_judge_a_right_and_a_wrong_answer() -> None:
    item = open_task("humaneval").items[0]
    right = "    return any(abs(a - b) < threshold for i, a in enumerate(numbers) for b in numbers[:i])\n"
    wrong = "    return False\n"
    assert passes(*(f"{item.prompt}{body}\n\n{item.tests}\n" for body in (right, wrong))) == [True, False]
