"""Rules for passwords, locks and sessions: two profiles, and the checks of a new password. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any, Final, Literal

Needs = Literal["all", "offices", "nobody"]

MOST_CHARS: Final = 128
"""Of a password. More would let a caller choose how long the hash takes to read."""
WARN_DAYS: Final = 7
"""How long before a password expires its owner is told."""
_RUN: Final = 4
"""Characters in a row, `abcd` or `1111`, that count as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Rules in force. Fields are keys of `[console]`."""

    factor: Needs = "offices"
    idle_s: int = 900
    longest_s: int = 36_000
    fresh_s: int = 300
    most_sessions: int = 10
    tries: int = 5
    lock_s: int = 900
    password_chars: int = 12
    password_kinds: int = 1
    password_max_age_days: int = 0
    password_former: int = 5

    @property
    def max_age_s(self) -> int:
        """Longest life of a password; 0: for ever."""
        return self.password_max_age_days * 86_400

    def sentences(self) -> tuple[str, ...]:
        """Return the requirements on a new password, for the person who chooses one."""
        said = [f"at least {self.password_chars} characters, at most {MOST_CHARS}"]
        if self.password_kinds > 1:
            said.append(f"{self.password_kinds} of: small letters, capitals, digits, other characters")
        said.append("not your account name, and none of the passwords that everybody uses")
        if self.password_former:
            said.append(f"none of your last {self.password_former} passwords")
        return tuple(said)


DEFAULT: Final = Rules()
MLPS3: Final = Rules(
    factor="all", longest_s=28_800, most_sessions=3, lock_s=1_800, password_chars=10, password_kinds=3,
    password_max_age_days=90,
)  # fmt: skip
"""GB/T 22239-2019 8.1.4.1 a (complexity, regular change), b (locked after failures, ended when idle), d (two factors).
The standard names no figures; these are stricter than what inspectors usually ask (8 characters of 3 kinds, 90 days,
5 failures, 30 minutes)."""


def rules_of(profile: str, given: Mapping[str, Any]) -> Rules:
    """Return the rules of a profile with the operator's settings."""
    return replace(MLPS3 if profile == "mlps3" else DEFAULT, **given)


def weakness_of(password: str, rules: Rules, *, account: str = "") -> str:
    """Return what is wrong with a new password, as the rest of a sentence after "the password"; empty: nothing."""
    if len(password) < rules.password_chars:
        return f"has {len(password)} characters; it needs at least {rules.password_chars}"
    if len(password) > MOST_CHARS:
        return f"has {len(password)} characters; at most {MOST_CHARS} are taken"
    if any(ord(char) < 32 or ord(char) == 127 for char in password):
        return "contains a control character"
    kinds = kinds_in(password)
    if kinds < rules.password_kinds:
        return f"has {kinds} of the 4 kinds of characters; it needs {rules.password_kinds}"
    folded = password.casefold()
    name = account.rpartition(":")[2].casefold()
    if len(name) >= 3 and (name in folded or name[::-1] in folded):
        return "contains the name of the account"
    if _distinct(folded) < min(6, rules.password_chars):
        return "consists of few characters in a row, such as 1111 or abcd"
    if folded in _common() or _stem(folded) in _common():
        return "is one of those that everybody uses"
    return ""


def kinds_in(password: str) -> int:
    """Return the number of character classes: lower case, upper case, digits, others."""
    return sum(
        (
            any(char.islower() for char in password),
            any(char.isupper() for char in password),
            any(char.isdigit() for char in password),
            any(not char.isalnum() or not (char.islower() or char.isupper() or char.isdigit()) for char in password),
        )
    )


def _distinct(text: str) -> int:
    """Return the number of characters when each run (`aaaa`, `abcd`, `4321`) counts as one."""
    left, run, step = 1, 1, None
    for before, after in pairwise(text):
        now = ord(after) - ord(before)
        run = run + 1 if now == step and now in (-1, 0, 1) else 2 if now in (-1, 0, 1) else 1
        step = now
        left += 1
        if run == _RUN:
            left -= _RUN - 1
        elif run > _RUN:
            left -= 1
    return min(left, len(set(text)) + 2)


_LEET: Final = str.maketrans("0134578@$!", "oieastbasi")


def _stem(text: str) -> str:
    """Return a password without common decorations: `P@ssw0rd2024!` is `password`."""
    return text.rstrip("0123456789!@#$%^&*()_+-=.,?~ ").translate(_LEET)


@cache
def _common() -> frozenset[str]:
    text = files("ashore.control.sessions").joinpath("common.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))
