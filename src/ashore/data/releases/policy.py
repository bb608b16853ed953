"""The operator's policy for trying releases: `[release]` of ashore.toml."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from msgspec import Meta
from msgspec.structs import replace

from ashore.core.errors import InvalidSpec
from ashore.data.releases.allowed import NEVER_ALLOWED
from ashore.data.releases.burn import Slo
from ashore.data.releases.judges import JudgeSpec, check_judges
from ashore.kit.section import APlace, Section, toml

GateRule = Literal["if_evaluated", "required"]
"""Whether a release may be made of a model that was never evaluated against a gate."""
MOST_PAIRS: Final = 200
MOST_SCHEMA_BYTES: Final = 256 << 10


class ReleasePolicy(Section, frozen=True, kw_only=True):
    """How candidates are tried."""

    pairs: Annotated[int, Meta(ge=0, le=MOST_PAIRS)] = 20
    """Pairs of answers that differ most, kept of each release, masked; 0: none."""
    judges: Annotated[tuple[JudgeSpec, ...], toml("judge")] = ()
    """The operator's own, whose verdicts are part of the test."""
    slo: Slo = Slo()
    """What a canary may not use up too fast."""
    gate: GateRule = "if_evaluated"
    """What is asked of the evaluation of a model; a failed one stops a release either way."""
    allow_options: tuple[str, ...] = ()
    """Engine options that releases made over the API may have beyond those that tune."""
    adapter_folders: tuple[APlace, ...] = ()
    """Folders that their adapters may lie in; those that a `[[model]]` names are among them."""

    def checked(self, where: str) -> Self:
        for name in self.allow_options:
            if name in NEVER_ALLOWED:
                raise InvalidSpec(
                    f"{where} allow_options has {name!r}; a caller must not set where prompts are sent",
                    hint=f"set {name} under [model.engine] of the model",
                )
        return self

    def beside(self, folder: Path, *, adapters: Iterable[str] = ()) -> Self:
        """Return the policy with schemas read from their files, and commands and folders as absolute paths.

        Args:
            folder: Base of relative paths.
            adapters: Folders that models of the same file name; releases may have those too.

        Raises:
            InvalidSpec: a file cannot be read, or a judge cannot be used.
        """
        judges = tuple(_beside(judge, folder) for judge in self.judges)
        check_judges(judges, "[release]")
        folders = (*(str(folder / Path(one).expanduser()) for one in self.adapter_folders), *adapters)
        return replace(self, judges=judges, adapter_folders=tuple(dict.fromkeys(folders)))


def _beside(judge: JudgeSpec, folder: Path) -> JudgeSpec:
    if judge.command and "/" in judge.command[0]:
        program = str(folder / Path(judge.command[0]).expanduser())
        judge = replace(judge, command=(program, *judge.command[1:]))
    if not judge.schema:
        return judge
    path = folder / Path(judge.schema).expanduser()
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= MOST_SCHEMA_BYTES else ""
    except OSError as fault:
        raise InvalidSpec(
            f"the schema {path} of judge {judge.name!r}: {fault.strerror}", hint="name an existing file"
        ) from fault
    except UnicodeDecodeError as fault:
        raise InvalidSpec(f"the schema {path} of judge {judge.name!r} is not UTF-8", hint="correct the file") from fault
    if not text.strip():
        seen = f"has {size:,} bytes; expected at most {MOST_SCHEMA_BYTES:,}" if size else "is empty"
        raise InvalidSpec(f"the schema {path} of judge {judge.name!r} {seen}", hint="use a smaller file")
    return replace(judge, schema=text)
