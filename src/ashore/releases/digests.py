"""Names of what a release is made of: equal parts have equal names on every machine. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from ashore.planning import ModelPlan

_encode = msgspec.json.Encoder(order="sorted").encode


def digest_of_value(value: object) -> str:
    """Return the digest of anything that msgspec writes as JSON."""
    return "sha256:" + hashlib.sha256(_encode(value)).hexdigest()


def content_of_parts(parts: Mapping[str, str]) -> str:
    """Return one digest over all parts."""
    return digest_of_value(dict(parts))


def spec_content(plan: ModelPlan) -> str:
    """Return the name of what ashore.toml asks for: model, engine and its options, adapters, replicas.

    Threads and the size of the cache are the machine's, and move with its free memory; they do not count.
    """
    options = plan.options
    asked = (plan.reference, options.kind, options.context_tokens, sorted(options.extra.items()), plan.adapters)
    return digest_of_value((*asked, plan.replicas))


def engine_digest(plan: ModelPlan) -> str:
    """Return the name of the engine and of every option that may change an answer."""
    options = plan.options
    return digest_of_value((options.kind, options.context_tokens, sorted(options.extra.items())))
