"""Makers of accelerators, one row each of accelerators.toml, and which of them this machine has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

DEFAULT: Final = "nvidia"
_NUMBER: Final = re.compile(r"\{n(?:\+([0-9]+))?\}")


class OnTheBus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a maker's cards show themselves on the PCI bus."""

    vendor: int
    classes: frozenset[int]


class Maker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one maker's cards need. The head of accelerators.toml describes the fields."""

    title: str
    pci: OnTheBus
    nodes: tuple[str, ...]
    visible: tuple[str, ...]
    resource: str
    image: str
    tried: str
    source: tuple[str, ...]
    optional: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    trap: str = ""

    def files(self, cards: int) -> tuple[str, ...]:
        """Return the device files of the first `cards` cards."""
        return tuple(dict.fromkeys(_filled(node, number) for number in range(cards) for node in self.nodes))

    def variables(self, cards: int) -> dict[str, str]:
        """Return the environment of an engine with the first `cards` cards of a machine."""
        return {**dict.fromkeys(self.visible, ",".join(map(str, range(cards)))), **self.environment}

    @property
    def own_files(self) -> str:
        """A pattern below `/` of files that only this maker's driver makes, one for each card; empty: there is none."""
        own = (node for node in self.nodes if _NUMBER.search(node) and not node.startswith("/dev/dri/"))
        return next((_NUMBER.sub("[0-9]*", node).lstrip("/") for node in own), "")


@cache
def makers() -> Mapping[str, Maker]:
    """Return the makers by name."""
    return msgspec.toml.decode(files("ashore.kit").joinpath("accelerators.toml").read_bytes(), type=dict[str, Maker])


def count_cards(root: Path = Path("/")) -> dict[str, int]:
    """Return how many cards of each maker the machine with the file system `root` has.

    The PCI bus says it, before there is a driver. Where it is hidden, as in some virtual machines and containers, the
    files of drivers count.
    """
    found: Counter[str] = Counter()
    for device in root.glob("sys/bus/pci/devices/*"):
        vendor, kind = _hex(device / "vendor"), _hex(device / "class") >> 16
        found.update(name for name, one in makers().items() if vendor == one.pci.vendor and kind in one.pci.classes)
    for name, maker in makers().items():
        if not found[name] and maker.own_files:
            found[name] = len(list(root.glob(maker.own_files)))
    return {name: number for name, number in found.items() if number}


def _filled(node: str, number: int) -> str:
    return _NUMBER.sub(lambda found: str(number + int(found[1] or 0)), node)


def _hex(file: Path) -> int:
    try:
        return int(file.read_text(), 16)
    except (OSError, ValueError):
        return 0
