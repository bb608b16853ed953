"""Every route of the HTTP interface."""

from __future__ import annotations

from ashore.api.http import operate
from ashore.api.http.anthropic import handlers as anthropic
from ashore.api.http.anthropic.types import CountOut, CountRequest, MessageOut, MessagesRequest
from ashore.api.http.openai import handlers as openai
from ashore.api.http.openai.chat import ChatCompletion
from ashore.api.http.openai.completions import Completion
from ashore.api.http.openai.embeddings import EmbeddingList, ModelList, ModelOut
from ashore.api.http.openai.types import ChatRequest, CompletionRequest, EmbeddingRequest
from ashore.api.http.routes import Route

ROUTES: tuple[Route, ...] = (
    Route(
        method="POST", path="/v1/chat/completions", guard="key", handler=openai.chat, tag="OpenAI", streams=True,
        repeats=True, summary="Answer a conversation", request=ChatRequest, response=ChatCompletion,
    ),
    Route(
        method="POST", path="/v1/completions", guard="key", handler=openai.completions, tag="OpenAI", streams=True,
        repeats=True, summary="Continue a text", request=CompletionRequest, response=Completion,
    ),
    Route(
        method="POST", path="/v1/embeddings", guard="key", handler=openai.embeddings, tag="OpenAI",
        summary="Turn texts into vectors", request=EmbeddingRequest, response=EmbeddingList,
    ),
    Route(
        method="POST", path="/v1/messages", guard="key", handler=anthropic.messages, tag="Anthropic", streams=True,
        repeats=True, summary="Answer a conversation", request=MessagesRequest, response=MessageOut, anthropic=True,
    ),
    Route(
        method="POST", path="/v1/messages/count_tokens", guard="key", handler=anthropic.count_tokens, tag="Anthropic",
        summary="Count the tokens of a conversation", request=CountRequest, response=CountOut, anthropic=True,
    ),
    Route(
        method="GET", path="/v1/models", guard="key", handler=openai.models, tag="OpenAI",
        summary="List the served models", response=ModelList,
    ),
    Route(
        method="GET", path="/v1/models/{model}", guard="key", handler=openai.model, tag="OpenAI",
        summary="Describe one served model", response=ModelOut,
    ),
    Route(
        method="GET", path="/healthz", guard="open", handler=operate.healthz, tag="Operation",
        summary="Tell that the process answers", response=operate.Health,
    ),
    Route(
        method="GET", path="/readyz", guard="open", handler=operate.readyz, tag="Operation",
        summary="Tell whether every model can answer", response=operate.Readiness,
    ),
    Route(
        method="GET", path="/metrics", guard="operator", handler=operate.metrics, tag="Operation",
        summary="Metrics in Prometheus' form", content_type="text/plain",
    ),
    Route(
        method="GET", path="/admin/v1/cache", guard="operator", handler=operate.cache, tag="Administration",
        summary="What the cache of answers holds and did", response=operate.CacheList,
    ),
    Route(
        method="GET", path="/openapi.json", guard="operator", handler=operate.openapi, tag="Operation",
        summary="This document",
    ),
)  # fmt: skip
