"""Inputs of the planner: a load, a service level, and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

from ashore.core.errors import InvalidRequest
from ashore.core.nearest import did_you_mean
from ashore.kit.textfile import read_toml
from ashore.lab.sizing.chips import Chip, chips

HOURS_A_YEAR = 8760.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The users' load."""

    requests_per_s: float
    """At the busiest time. With `users`, what they send when every answer comes at once: each waits and thinks."""
    users: int = 0
    """0: the rate is given."""
    think_s: float = 30.0
    """With users: from an answer to the next question."""
    isl: float
    """Mean tokens of a prompt, shared prefix included."""
    osl: float
    """Mean tokens of an answer."""
    shared_tokens: float = 0.0
    """Of a prompt, tokens that many prompts begin with: computed once."""
    answered_from_cache: float = 0.0
    """Share of the requests that the answer cache answers."""

    @property
    def computed(self) -> float:
        """Return the tokens of a prompt that are computed."""
        return max(1.0, self.isl - self.shared_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The service level."""

    first_s: float
    """Seconds to the first token."""
    token_s: float
    """Seconds for each token after it."""
    percentile: float = 95.0
    """Share of the requests, in percent, that get both."""

    @property
    def deviations(self) -> float:
        """Return the number of standard deviations above the mean for that share."""
        return max(0.0, NormalDist().inv_cdf(min(self.percentile, 99.99) / 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What machines and electricity cost. Prices of devices are in the catalogue, or in a file of one's own."""

    years: float = 4.0
    """In which a machine is paid off."""
    host_share: float = 0.4
    """Price of the machine around the devices, as a share of theirs."""
    usd_per_kwh: float = 0.12
    pue: float = 1.4
    """Electricity of the room for each kWh of the machines."""


def missing(load: Mapping[str, object], level: Mapping[str, object]) -> tuple[str, ...]:
    """Return the missing inputs of a plan, by option; values are None if not given."""
    lacks = [name for name, value in (*load.items(), *level.items()) if value is None]
    return tuple(lacks)


def refuse_without(lacks: Sequence[str]) -> None:
    """Check that nothing is missing.

    Raises:
        InvalidRequest: something is; the message names it.
    """
    if lacks:
        raise InvalidRequest(
            f"no plan without {', '.join(lacks)}: requests a second mean nothing without lengths and a service level",
            hint="for example --rate 10 --isl 800 --osl 250 --ttft 2s --tpot 100ms",
            param=lacks[0],
        )


def priced(path: Path | None) -> dict[str, Chip]:
    """Return the catalogue with the prices of a TOML file: `H20 = 11000` for a device in US dollars.

    Raises:
        InvalidSpec: the file cannot be read, or is not TOML.
        InvalidRequest: it names a device that is not in the catalogue.
    """
    found = dict(chips())
    if path is None:
        return found
    for name, price in read_toml(path, hint='write lines "H20-96G" = 11000').items():
        if name not in found:
            raise InvalidRequest(
                f"{path} has a price of {name[:60]!r}, which is not in the catalogue",
                hint=did_you_mean(name[:60], tuple(found)),
            )
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1e8:
            raise InvalidRequest(
                f"{path}: the price of {name} is {price!r}", hint="give US dollars, 0 for what you own"
            )
        found[name] = replace(found[name], usd=float(price), price="your own")
    return found
