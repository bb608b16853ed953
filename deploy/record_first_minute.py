"""Record the first minute with ashore, and draw it as a picture that plays by itself.

    python deploy/record_first_minute.py docs/first-minute.json docs/first-minute.svg      # run the commands, and draw
    python deploy/record_first_minute.py --draw docs/first-minute.json docs/first-minute.svg

The commands run for real, in an empty directory with an empty home. What they print is kept with its times. The picture
shortens long pauses and leaves out the beginning of each progress; it loads nothing and needs no script.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

WIDTH: Final = 108
"""Characters of a line; longer ones are cut."""
LONGEST_PAUSE_S: Final = 1.2
STAYS_S: Final = 9.0
"""How long the last line is shown before it begins again."""
MOST_LINES: Final = 7
"""Of one command but `up`: the first and the last ones."""
ROW: Final = 17
ASKS: Final = (
    "ashore status",
    "echo 'Card 4111 1111 1111 1111, please.' | ashore privacy mask",
)
PROGRESS: Final = re.compile(r": ([\d.]+ \w+) of ([\d.]+ \w+)$")
READY: Final = "Ctrl-C stops it."


class Line(NamedTuple):
    """A line on the screen."""

    at_s: float
    """Since the first command, in real time."""
    text: str


def record() -> list[Line]:
    """Run the commands and return what was seen."""
    began, seen = time.monotonic(), list[Line]()

    def see(text: str) -> None:
        seen.append(Line(round(time.monotonic() - began, 2), text))

    program = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ASHORE_")}
        environ |= {"HOME": folder, "PATH": f"{program}:{environ['PATH']}"}
        see("$ ashore up")
        server = subprocess.Popen(
            ["ashore", "up"], cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said: list[str] = []
        ready = threading.Event()

        def read() -> None:
            assert server.stdout is not None
            for line in server.stdout:
                said.append(line.rstrip())
                see(said[-1].replace(folder, "~"))
                if line.startswith(READY):
                    ready.set()
            ready.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            if not ready.wait(600) or server.poll() is not None:
                raise SystemExit("ashore up did not start:\n" + "\n".join(said))
            curl = re.search(r"  (curl .*?}')$", "\n".join(said), re.DOTALL | re.MULTILINE)
            assert curl is not None, "it printed no curl"
            for command in (curl[1], *ASKS):
                _ask(command, folder, environ, see)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)
            reader.join()
    return seen[: next(at for at in range(len(seen) - 1, 0, -1) if not seen[at].text.startswith("stop")) + 1]


def _ask(command: str, folder: str, environ: dict[str, str], see: object) -> None:
    assert callable(see)
    see("")
    for number, line in enumerate(command.replace(folder, "~").splitlines()):
        see(("$ " if number == 0 else "") + line.rstrip())
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=True
    )
    lines = [line for line in done.stdout.splitlines() if line.strip()] if command.startswith("curl") else []
    lines = lines or done.stdout.rstrip().splitlines()
    if command.startswith("curl") and len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 3], f"… {len(lines) - MOST_LINES + 1} more pieces", *lines[-2:]]
    for line in lines:
        see(line.replace(folder, "~"))


def draw(lines: Sequence[Line]) -> str:
    """Return the picture: each line appears when it came, and the screen moves up where it is full."""
    lines = [line for line in lines if not (found := PROGRESS.search(line.text)) or found[1] == found[2]]
    shown_at, now_s = [], 0.0
    for at, line in enumerate(lines):
        pause_s = 0.0 if at == 0 else min(line.at_s - lines[at - 1].at_s, LONGEST_PAUSE_S)
        now_s += max(pause_s, 0.5 if line.text.startswith("$ ") else 0.03)
        shown_at.append(now_s)
    whole_s = now_s + STAYS_S
    rows = min(len(lines), 32)
    height = rows * ROW + 52
    width = WIDTH * 8 + 32
    moves = [(0.0, 0)]
    for at, shown in enumerate(shown_at):
        if at >= rows:
            moves.append((shown, at - rows + 1))
    steps = "".join(f"{100 * at_s / whole_s:.2f}%{{transform:translateY({-up * ROW}px)}}" for at_s, up in moves)
    texts = []
    for at, (line, shown) in enumerate(zip(lines, shown_at, strict=True)):
        text = line.text if len(line.text) <= WIDTH else f"{line.text[: WIDTH - 1]}…"
        kind = ' class="c"' if line.text.startswith("$ ") else ""
        begins = f"{100 * shown / whole_s:.2f}"
        texts.append(
            f"<style>@keyframes l{at}{{0%,{begins}%{{opacity:0}}{begins}1%,100%{{opacity:1}}}}"
            f"#l{at}{{animation:l{at} {whole_s:.1f}s linear infinite}}</style>"
            f'<text id="l{at}" x="16" y="{48 + at * ROW}"{kind} xml:space="preserve">{escape(text)}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="A terminal: ashore starts, answers, and shows its state">'
        "<style>text{font:13px ui-monospace,Menlo,Consolas,monospace;fill:#c5c8c6}.c{fill:#98c379;font-weight:bold}"
        f"@keyframes up{{{steps}100%{{transform:translateY({-moves[-1][1] * ROW}px)}}}}"
        f"#s{{animation:up {whole_s:.1f}s step-end infinite}}"
        "@media (prefers-reduced-motion:reduce){*{animation:none!important;opacity:1!important}"
        f"#s{{transform:translateY({-moves[-1][1] * ROW}px)}}}}</style>"
        f'<rect width="{width}" height="{height}" rx="8" fill="#1e2127"/>'
        '<circle cx="20" cy="18" r="5" fill="#e06c75"/><circle cx="38" cy="18" r="5" fill="#e5c07b"/>'
        '<circle cx="56" cy="18" r="5" fill="#98c379"/>'
        f'<clipPath id="p"><rect x="0" y="32" width="{width}" height="{height - 36}"/></clipPath>'
        f'<g clip-path="url(#p)"><g id="s">{"".join(texts)}</g></g></svg>\n'
    )


def main(words: Sequence[str]) -> int:
    """Record, or read what was recorded, and draw."""
    only_draw = words[:1] == ["--draw"]
    if len(words) != (3 if only_draw else 2):
        sys.stderr.write(__doc__ or "")
        return 2
    kept, picture = map(Path, words[-2:])
    if not only_draw:
        kept.write_text("[\n" + ",\n".join(json.dumps(line, ensure_ascii=False) for line in record()) + "\n]\n")
    picture.write_text(draw([Line(*line) for line in json.loads(kept.read_text())]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
