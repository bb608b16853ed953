"""`python -m tests.fuzz [TARGET…] [--seconds N]`: search for inputs that break a promise, guided by coverage (atheris).

What is found is kept in `crashes/TARGET/`, where the suite runs it from then on; what reaches new branches is kept
in `.cache/fuzz/TARGET`, where the next search begins. The target `api` runs `tests/integration/test_access_schema.py`,
the targets `hostile` and `patterns` do what `hostile.py` and `patterns.py` say, however long that takes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"


def main() -> int:
    """Run the targets that were named, one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all of them")
    parser.add_argument("--seconds", type=int, default=180, help="for each target (default: 180)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(TESTS / "support")]
    if asked.inside:
        return search(asked.targets[0], asked.seconds)
    from tests.fuzz.targets import TARGETS

    known = (*TARGETS, "api", "hostile", "patterns")
    unknown = set(asked.targets) - {*known}
    if unknown:
        parser.error(f"no target is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    found = [name for name in asked.targets or known if not searched(name, asked.seconds)]
    print(f"found something: {', '.join(found)}" if found else "found nothing")
    return 1 if found else 0


def searched(name: str, seconds: int) -> bool:
    """Search one target; return whether nothing was found."""
    print(f"--- {name}", flush=True)
    command = [sys.executable, "-m", "tests.fuzz", "--inside", name, "--seconds", str(seconds)]
    environ = dict(os.environ)
    if name == "hostile":
        command = [sys.executable, "-c", "from tests.fuzz.hostile import main; raise SystemExit(main())"]
        environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{TESTS / 'support'}"
    if name == "patterns":
        command = [sys.executable, "-m", "tests.fuzz.patterns"]
    if name == "api":
        command = [sys.executable, "-m", "pytest", "tests/integration/test_access_schema.py"]
        environ["ASHORE_TEST_SCHEMA_SECONDS"] = str(seconds)
    return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode == 0


def search(name: str, seconds: int) -> int:
    """Search one target in this process, which ends with the search or with the first input that breaks a promise."""
    import atheris

    traced = ["ashore", "gguf", "jinja2", "jwt", "tarfile", "tomllib"]
    with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=traced):
        from tests.fuzz.target import CRASHES, changed, checked
        from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    corpus, kept = ROOT / ".cache/fuzz" / name, CRASHES / name
    for folder in (corpus, kept):
        folder.mkdir(parents=True, exist_ok=True)
    seeds = target.seeds()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)

    def mutate(data: bytes, most_bytes: int, number: int) -> bytes:
        rng = random.Random(number)
        if rng.randrange(2):
            return changed(bytes(data), target.words, rng)[:most_bytes]
        return bytes(atheris.Mutate(data, most_bytes))

    with contextlib.ExitStack() as at_end, tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        check = target.open(Path(folder), at_end)
        limits = [f"-max_total_time={seconds}", f"-max_len={max(target.most_bytes, *map(len, seeds))}", "-timeout=60"]
        limits += ["-rss_limit_mb=4096", f"-artifact_prefix={kept}/", "-print_final_stats=1", "-verbosity=0"]
        atheris.Setup(
            [sys.argv[0], *limits, str(corpus)],
            lambda data: checked(check, data, most_cpu_s=30),  # it is traced, and so some times slower
            custom_mutator=mutate,
        )
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
