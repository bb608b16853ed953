"""What callers of the API may set on a new release: tuning options only. ashore.toml decides what runs and what is
loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Final

from ashore.core.errors import InvalidRequest, PermissionDenied
from ashore.core.ids import check_adapter_name
from ashore.core.kinds import EngineKind
from ashore.core.nearest import did_you_mean
from ashore.data.engines import CARDS, LIMITS, OptionValue, card_of, is_tame

Options = tuple[tuple[str, OptionValue], ...]
Adapters = tuple[tuple[str, str], ...]

NEVER_ALLOWED: Final = frozenset({"api_key", "fleet"})
"""Options that not even `[release] allow_options` may name: where the prompts of an alias go is said in ashore.toml."""


def kind_named(text: str) -> EngineKind | None:
    """Return the engine kind of that name; None if unset or unknown, which others report."""
    return next((card.kind for card in CARDS if card.kind == text), None)


def check_options(options: Options, kind: EngineKind | None, allow_options: Sequence[str]) -> None:
    """Check that a caller may set these engine options.

    Args:
        options: As the caller named them.
        kind: Of the engine; None where it is not known yet: then what tunes any kind may pass.
        allow_options: Options that the operator allows beyond tuning.

    Raises:
        InvalidRequest: the engine has no such option, or it has no effect there, even if allowed; or its value is not a
            number, flag or word.
        PermissionDenied: the option decides what runs.
    """
    engines = [card.options for card in (CARDS if kind is None else (card_of(kind),))]
    for name, value in options:
        is_ours = any(name in each.known or each.passes_on(name) for each in engines)
        if name in allow_options and name not in NEVER_ALLOWED and is_ours:
            continue
        limits = [one for one in LIMITS if any(one not in each.unused for each in engines)]
        tuning = {*limits, *(one for each in engines for one in each.tune)}
        if name in tuning:
            if name not in LIMITS and not is_tame(value):
                raise InvalidRequest(
                    f"engine option {name} is {str(value)[:60]!r}; expected a number, true, false or a word",
                    hint=_how_to_allow(name),
                    param="options",
                )
            continue
        whose = kind or "any engine"
        if any(name in each.known for each in engines):
            raise PermissionDenied(
                f"engine option {name!r} sets what {whose} runs or connects to; a release can set only tuning options",
                hint=_how_to_allow(name),
                action="release:create",
                resource=f"option/{name}",
            )
        near = did_you_mean(name[:60], tuning)
        raise InvalidRequest(
            f"{name[:60]!r} is not a tuning option of {whose}",
            hint=f"{near}; {_how_to_allow(name[:60])}" if is_ours else near,
            param="options",
        )


def check_adapters(adapters: Iterable[tuple[str, str]], folders: Sequence[str]) -> Adapters:
    """Return the adapters that a caller names, each with its folder after following links.

    The returned path is what gets loaded: changing the link later has no effect.

    Raises:
        InvalidRequest: a name is invalid, or the folder does not exist.
        PermissionDenied: the folder is outside the folders that ashore.toml allows.
    """
    roots = [os.path.realpath(folder) for folder in folders]
    found = []
    for name, folder in adapters:
        check_adapter_name(name)
        real = os.path.realpath(folder) if os.path.isabs(folder) else ""
        if not any(real == root or real.startswith(root.rstrip("/") + "/") for root in roots):
            raise PermissionDenied(
                f"the adapter {name} is in {folder[:200]!r}, which is outside the allowed adapter folders",
                hint="give an absolute path in a folder that [release] adapter_folders of ashore.toml lists",
                action="release:create",
                resource=f"adapter/{name}",
            )
        if not os.path.isdir(real):
            raise InvalidRequest(
                f"the adapter {name} is in {folder[:200]!r}, which is not a directory",
                hint="give the directory that `ashore train sft` or peft wrote",
                param="adapters",
            )
        found.append((name, real))
    return tuple(found)


def _how_to_allow(name: str) -> str:
    if name in NEVER_ALLOWED:
        return f"set {name} in ashore.toml, under [model.engine]"
    return f'to let releases set it, write [release] allow_options = ["{name}"] in ashore.toml'
