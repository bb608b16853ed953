"""The text of a message: a subject, and lines that a phone shows. No name in it can act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ashore.control.alerts.model import TEST, Alert, Message
from ashore.core.timespan import human_moment
from ashore.core.visible import on_a_screen
from ashore.kit.sentences import Language, said

MOST_LINES: Final = 20
"""Alerts that one message names; the rest is counted."""
MOST_CHARS: Final = 300
"""Of one sentence."""
_TAMED: Final[Mapping[int, str]] = str.maketrans(
    {
        "@": "＠",
        "<": "＜",
        ">": "＞",
        "[": "［",
        "]": "］",
        "`": "'",
        "*": "＊",
        "#": "＃",
        "_": "＿",
        "|": "｜",
        "~": "～",
    }
)
"""What robots take for a mention, a link or a format, as the same in full width."""


def title(message: Message, node: str, language: Language = "en") -> str:
    """Return the subject of a message."""
    worst = message.firing[0] if message.firing else message.ended[0]
    severity = said(worst.wrong.severity if message.firing else "over", language)
    more = len(message.firing) + len(message.ended) + message.dropped - 1
    return one_line(f"[{severity}] {node}: {said(worst.wrong.what, language)}") + (f" (+{more})" if more else "")


def body(message: Message, console: str, language: Language = "en", *, tamed: bool = False) -> str:
    """Return the lines of a message. `tamed`: for a robot that reads Markdown."""
    shown = [*message.firing, *message.ended]
    lines = [line for one in shown[:MOST_LINES] for line in _lines(one, language)]
    if hidden := len(shown) - MOST_LINES + message.dropped if len(shown) > MOST_LINES else message.dropped:
        lines.append(said(f"and {hidden:,} more: ashore alert list", language))
    text = "\n".join(tame(line) if tamed else line for line in lines)
    return f"{text}\n{console}/alerts" if console else text


def _lines(alert: Alert, language: Language) -> list[str]:
    wrong, since = alert.wrong, human_moment(alert.since_s)
    about = f"{said(wrong.what, language)} ({wrong.rule}, {said(f'since {since}', language)})"
    if alert.gone_s:
        return [one_line(f"{said('over', language)}: {about}")]
    lines = [one_line(f"{said(wrong.severity, language)}: {about}")]
    lines += [one_line(f"  {said('do', language)}: {said(wrong.remedy, language)}")] if wrong.remedy else []
    lines += [one_line(f"  $ {command}") for command in wrong.commands[:2]]
    return lines if wrong.rule == TEST else [*lines, f"  ashore alert ack {wrong.id}"]


def one_line(text: str) -> str:
    """Return a text on one line of bounded length, with nothing hidden."""
    text = text[: 4 * MOST_CHARS]  # what is cut off below is not looked at: it may have a megabyte
    text = on_a_screen(" ".join(text.split()) if not text.startswith("  ") else "  " + " ".join(text.split()))
    return text if len(text) <= MOST_CHARS else text[: MOST_CHARS - 1] + "…"


def tame(text: str) -> str:
    """Return a text in which a robot finds no mention, link or format."""
    return text.translate(_TAMED).replace("://", "：//")
