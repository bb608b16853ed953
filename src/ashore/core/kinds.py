"""Kinds of engines and formats of models, shared by the store, the plan and the engines."""

from __future__ import annotations

from typing import Literal

EngineKind = Literal["openvino", "llamacpp", "vllm", "textonly", "torch", "tabular", "fake"]

ModelFormat = Literal["gguf", "safetensors", "openvino", "text"]
"""Forms that the store keeps: of weights, and `text` for tokenizer, template and configuration without weights."""

ServedFormat = Literal[ModelFormat, "fake", "remote"]
"""Form of a model for an engine: a format of weights, no model at all, or a model behind an address."""
