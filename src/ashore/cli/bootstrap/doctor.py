"""The doctor of a home, with all its data sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ashore.cli.bootstrap.state import as_served, open_state
from ashore.cli.bootstrap.stores import build_store
from ashore.kit.settings import Settings

if TYPE_CHECKING:
    from ashore.control.doctor.examine import Doctor
    from ashore.control.doctor.probes.home import Backend
    from ashore.control.doctor.readings import Configuration
    from ashore.control.doctor.survey import Sources
    from ashore.control.doctor.topology import ServedPart


def open_doctor(
    settings: Settings,
    configuration: Callable[[], Configuration],
    backends: Callable[[Sequence[ServedPart]], Sequence[Backend]],
    *,
    survey_s: float | None = None,
) -> Doctor:
    """Return the doctor of a home. Opens nothing yet.

    Args:
        settings: Of the home.
        configuration: Asks the supervisor how ashore.toml differs from what runs.
        backends: Returns the servers of other machines behind releases.
        survey_s: Longest wait for the survey of sizes; None: the doctor's default.
    """
    from ashore.control.doctor.examine import SURVEY_S, Doctor

    sources = sources_of(settings, configuration, backends)
    return Doctor(sources, survey_s=SURVEY_S if survey_s is None else survey_s)


def sources_of(
    settings: Settings,
    configuration: Callable[[], Configuration],
    backends: Callable[[Sequence[ServedPart]], Sequence[Backend]],
) -> Sources:
    """Return the data sources of a home's doctor. None of them creates a file: the home may be deleted while it is
    read.
    """
    from ashore.cli.bootstrap.secrets import list_home_secrets
    from ashore.control.doctor.survey import Sources

    settings = as_served(settings)

    def unsealed() -> list[str]:
        if not settings.sealing_key or not settings.sealing_state:
            return []
        return [one.place for one in list_home_secrets(settings) if one.form == "clear"]

    return Sources(
        settings=settings,
        open_state=lambda: open_state(settings, create=False),
        open_store=lambda: build_store(settings.home, settings, create=False),
        configuration=configuration,
        unsealed=unsealed,
        backends=backends,
    )
