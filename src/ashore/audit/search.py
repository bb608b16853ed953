"""Search over the record, newest first. An index only says where to look: every answer is read from its line."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ashore.audit.canonical import decode
from ashore.audit.model import ChainName, Place, Record
from ashore.audit.query import Query, matches
from ashore.audit.segments import chains_in, read_lines, segment_path, segments_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A record and where it lies."""

    place: Place
    record: Record
    order_us: int
    """By what hits of several chains are sorted: the wall clock, except that it never runs back inside a chain."""


def search(root: Path, query: Query) -> list[Hit]:
    """Return what answers the query, newest first, `limit` at most."""
    chains = [chain for chain in chains_in(root) if not query.chain or chain == query.chain]
    streams = [_newest_first(root, chain, query) for chain in chains]
    merged = heapq.merge(*streams, key=lambda hit: -hit.order_us)
    hits = []
    for hit in merged:
        hits.append(hit)
        if len(hits) >= query.limit:
            break
    return hits


def _newest_first(root: Path, chain: ChainName, query: Query) -> Iterator[Hit]:
    for number in reversed(segments_of(root, chain)):
        yield from reversed(scan(segment_path(root, chain, number), chain, number, query))


def scan(path: Path, chain: ChainName, number: int, query: Query) -> list[Hit]:
    """Return the hits of one segment in its own order, by reading all of it."""
    hits = []
    order_us = 0
    with path.open("rb") as file:
        for line in read_lines(file):
            if not line.whole:
                break
            try:
                record = decode(line.body)
            except msgspec.DecodeError:
                continue  # `verify` names it
            order_us = max(order_us, record.at_us)
            if matches(query, record):
                hits.append(
                    Hit(place=Place(chain=chain, segment=number, offset=line.offset), record=record, order_us=order_us)
                )
    return hits
