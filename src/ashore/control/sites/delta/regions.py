"""What the bytes of a model's files are, tensor by tensor. Every byte of a file lies in exactly one region.

A map is a help to write less, never a promise: where a file cannot be read, it is one region of plain bytes. Files here
are the centre's own, from its store.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from xml.etree import ElementTree

from ashore.control.sites.delta.forms import GRAIN, RAW, Unit
from ashore.control.sites.model import SEGMENT_BYTES
from ashore.core.errors import AshoreError
from ashore.core.foreign import foreign_errors
from ashore.kit.store import gguf_reader
from ashore.kit.store.conversion.safetensorsmeta import read_header

log = logging.getLogger("ashore.sites")

_SMALL: Final = 1 << 20
"""Regions of less are joined in one segment, since each costs a request."""
_UNITS: Final[Mapping[str, Unit]] = MappingProxyType({"f16": "w2", "bf16": "w2", "f32": "w4", "i4": "i4", "u4": "i4"})
"""By the type's name in any of the formats, in small letters; others are compared byte by byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A matrix of whole-number codes with scales in half precision, by row or by groups of a row."""

    rows: int
    columns: int
    group: int
    """Codes of a row that share a scale."""
    bits: int
    scales_at: int
    """Where the scales are in the same file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A run of bytes of one kind."""

    at: int
    size: int
    unit: Unit = RAW
    name: str = ""
    """Of the tensor; empty between tensors."""
    grid: Grid | None = None


def regions_of(path: str, files: Mapping[str, Path]) -> tuple[Region, ...]:
    """Return the regions of one file of a model, in order, without holes.

    Args:
        path: Path inside the model; its ending says how to read it.
        files: Every file of the model: the map of a `.bin` is the `.xml` beside it.
    """
    size = files[path].stat().st_size
    try:
        return tuple(_without_holes(_read(path, files), size))
    except (AshoreError, OSError) as fault:
        log.warning("%s is compared as plain bytes: %s", path, fault)
        return tuple(_without_holes((), size))


def segment_cuts(regions: Iterable[Region]) -> Iterator[tuple[int, int]]:
    """Yield start and size of the segments of a file: along its tensors, so that an equal tensor is an equal segment
    in every model, and small ones together."""
    start = end = 0
    for region in regions:
        if region.size >= _SMALL or end - start + region.size > SEGMENT_BYTES or end - start >= _SMALL:
            yield from _pieces(start, end)
            start = end
        end += region.size
    yield from _pieces(start, end)


def _pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    for at in range(start, end, SEGMENT_BYTES):
        yield at, min(SEGMENT_BYTES, end - at)


def _read(path: str, files: Mapping[str, Path]) -> Iterable[Region]:
    if path.endswith(".safetensors"):
        return [
            Region(at=one.offset, size=one.num_bytes, unit=_UNITS.get(one.dtype.lower(), RAW), name=name)
            for name, one in read_header(files[path]).items()
        ]
    if path.endswith(".gguf"):
        with gguf_reader(files[path]) as reader:
            return [
                Region(
                    at=int(one.data_offset),
                    size=int(one.n_bytes),
                    unit=_UNITS.get(one.tensor_type.name.lower(), RAW),
                    name=str(one.name),
                )
                for one in reader.tensors
            ]
    graph = files.get(path.removesuffix(".bin") + ".xml")
    if path.endswith(".bin") and graph is not None:
        with foreign_errors(f"{graph.name} is not a graph of OpenVINO"):
            return _openvino(graph)
    return ()


def _without_holes(found: Iterable[Region], size: int) -> Iterator[Region]:
    end = 0
    for region in sorted(found, key=lambda one: (one.at, -one.size)):
        if region.at < end or region.at + region.size > size or not region.size:
            continue  # constants may share their bytes
        if region.at > end:
            yield Region(at=end, size=region.at - end)
        yield region if region.size % GRAIN[region.unit] == 0 else dataclasses.replace(region, unit=RAW)
        end = region.at + region.size
    if end < size:
        yield Region(at=end, size=size - end)


def _openvino(graph: Path) -> list[Region]:
    root = ElementTree.parse(graph).getroot()
    layers = {str(one.get("id")): one for one in root.iterfind("layers/layer")}
    inputs = {
        (str(one.get("to-layer")), int(one.get("to-port", 0))): str(one.get("from-layer"))
        for one in root.iterfind("edges/edge")
    }
    grids: dict[int, Grid] = {}
    for number, layer in layers.items():
        if layer.get("type") == "Multiply" and (made := _grid(layers, inputs, number)) is not None:
            grids[made[0]] = made[1]
    found = []
    for layer in layers.values():
        data = layer.find("data") if layer.get("type") == "Const" else None
        if data is not None:
            at, kind = int(data.get("offset", 0)), str(data.get("element_type"))
            grid = grids.get(at) if kind in ("i8", "i4") else None
            found.append(
                Region(
                    at=at,
                    size=int(data.get("size", 0)),
                    unit=_UNITS.get(kind, RAW),
                    name=str(layer.get("name")),
                    grid=grid,
                )
            )
    return found


def _grid(
    layers: Mapping[str, ElementTree.Element], inputs: Mapping[tuple[str, int], str], number: str
) -> tuple[int, Grid] | None:
    """Return offset and shape of the codes of `convert(codes) * scales`, if a multiplication is that."""
    codes, scales = (_constant(layers, inputs, inputs.get((number, port), "")) for port in (0, 1))
    if codes is None or scales is None or scales.get("element_type") != "f16":
        return None
    bits = {"i8": 8, "i4": 4}.get(str(codes.get("element_type")))
    shape, per = ([int(side) for side in str(one.get("shape")).split(",") if side.strip()] for one in (codes, scales))
    if bits is None or len(shape) not in (2, 3) or per != [*shape[:-1], 1]:
        return None
    rows, columns = shape[0], math.prod(shape[1:])
    grid = Grid(rows=rows, columns=columns, group=shape[-1], bits=bits, scales_at=int(scales.get("offset", 0)))
    return int(codes.get("offset", 0)), grid


def _constant(layers: Mapping[str, ElementTree.Element], inputs: Mapping[tuple[str, int], str], number: str) -> Any:
    layer = layers.get(number)
    while layer is not None and layer.get("type") == "Convert":
        number = inputs.get((number, 0), "")
        layer = layers.get(number)
    return layer.find("data") if layer is not None and layer.get("type") == "Const" else None
