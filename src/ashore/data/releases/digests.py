"""Digests of a release's parts: equal parts have equal digests on every machine. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from ashore.data.engines import ModelPlan

_encode = msgspec.json.Encoder(order="sorted").encode


def digest_of_value(value: object) -> str:
    """Return the digest of any value that msgspec can encode as JSON."""
    return "sha256:" + hashlib.sha256(_encode(value)).hexdigest()


def content_of_parts(parts: Mapping[str, str]) -> str:
    """Return one digest over all parts."""
    return digest_of_value(dict(parts))


def spec_content(plan: ModelPlan) -> str:
    """Return the digest of an entry of ashore.toml: model, engine and options, adapters, replicas.

    Threads and cache size depend on the machine and are left out.
    """
    options = plan.options
    asked = (plan.reference, options.kind, options.context_tokens, sorted(options.extra.items()), plan.adapters)
    return digest_of_value((*asked, plan.replicas))


def engine_digest(plan: ModelPlan) -> str:
    """Return the digest of the engine and of every option that may change an answer."""
    options = plan.options
    return digest_of_value((options.kind, options.context_tokens, sorted(options.extra.items())))
