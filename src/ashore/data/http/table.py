"""The routes that API workers answer."""

from __future__ import annotations

from ashore.data.http import heads, jobs, operate
from ashore.data.http.anthropic import handlers as anthropic
from ashore.data.http.anthropic.types import CountOut, CountRequest, MessageOut, MessagesRequest
from ashore.data.http.jobs import JobList, JobOut
from ashore.data.http.mcp import mcp
from ashore.data.http.ollama import handlers as ollama
from ashore.data.http.ollama.types import (
    OllamaChatRequest,
    OllamaEmbedding,
    OllamaEmbeddings,
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
    OllamaRunning,
    OllamaShown,
    OllamaShowRequest,
    OllamaTags,
    OllamaVersion,
    Piece,
)
from ashore.data.http.openai import batches, conversations, files, moderations, rerank, responses, tokens
from ashore.data.http.openai import handlers as openai
from ashore.data.http.openai.batches import BatchList, BatchOut, BatchRequest
from ashore.data.http.openai.chat import ChatCompletion
from ashore.data.http.openai.completions import Completion
from ashore.data.http.openai.conversations import (
    ConversationDeleted,
    ConversationOut,
    ConversationRequest,
    ConversationUpdate,
    ItemOut,
    ItemsRequest,
)
from ashore.data.http.openai.embeddings import EmbeddingList, ModelList, ModelOut
from ashore.data.http.openai.files import FileDeleted, FileList, FileOut
from ashore.data.http.openai.rerank import RerankOut, RerankRequest, ScoreList, ScoreRequest
from ashore.data.http.openai.responses_types import (
    InputTokens,
    ItemList,
    ResponseDeleted,
    ResponseOut,
    ResponsesRequest,
)
from ashore.data.http.openai.tokens import DetokenizeOut, DetokenizeRequest, TokenizeOut, TokenizeRequest, TokenizerInfo
from ashore.data.http.openai.types import ChatRequest, CompletionRequest, EmbeddingRequest
from ashore.data.http.routes import Route
from ashore.data.http.welcome import docs, welcome

DATA_ROUTES: tuple[Route, ...] = (
    Route(
        method="POST", path="/v1/chat/completions", guard="key", handler=openai.chat, tag="OpenAI", streams=True,
        repeats=True, summary="Generate the next message of a conversation", request=ChatRequest,
        response=ChatCompletion, deferrable=True,
    ),
    Route(
        method="POST", path="/v1/completions", guard="key", handler=openai.completions, tag="OpenAI", streams=True,
        repeats=True, summary="Complete a prompt", request=CompletionRequest, response=Completion,
        deferrable=True,
    ),
    Route(
        method="POST", path="/v1/embeddings", guard="key", handler=openai.embeddings, tag="OpenAI",
        summary="Create embeddings of texts", request=EmbeddingRequest, response=EmbeddingList,
        deferrable=True,
    ),
    Route(
        method="POST", path="/v1/moderations", guard="infer", handler=moderations.moderations, tag="OpenAI",
        summary="Tell which categories of the guard lists a text has words of",
        request=moderations.ModerationRequest, response=moderations.ModerationOut,
    ),
    Route(
        method="POST", path="/v1/rerank", guard="key", handler=rerank.rerank, tag="Ranking",
        summary="Sort texts by how well they answer a question", request=RerankRequest, response=RerankOut,
    ),
    Route(
        method="POST", path="/rerank", guard="key", handler=rerank.rerank, tag="Ranking", operation="rerank_tei",
        summary="The same; with `texts` instead of `documents` in the form of TEI", request=RerankRequest,
        response=RerankOut,
    ),
    Route(
        method="POST", path="/v1/score", guard="key", handler=rerank.score, tag="Ranking",
        summary="Score pairs of texts", request=ScoreRequest, response=ScoreList,
    ),
    Route(
        method="POST", path="/v1/heads/{head}/score", guard="key", handler=heads.score, tag="Heads",
        operation="score_rows", summary="Score rows of features", request=heads.HeadRequest, response=heads.HeadScores,
    ),
    Route(
        method="POST", path="/v1/heads/{head}/score-encrypted", guard="key", handler=heads.score_encrypted,
        tag="Heads", summary="Score an encrypted row", content_type="application/octet-stream",
    ),
    Route(
        method="GET", path="/v1/heads/{head}", guard="key", handler=heads.card, tag="Heads", operation="head_card",
        summary="Get the features of a head, and what its clients encrypt with",
    ),
    Route(
        method="POST", path="/v1/messages", guard="key", handler=anthropic.messages, tag="Anthropic", streams=True,
        repeats=True, summary="Generate the next message of a conversation", request=MessagesRequest, leaves_out=True,
        response=MessageOut, errors="anthropic", deferrable=True,
    ),
    Route(
        method="POST", path="/v1/messages/count_tokens", guard="key", handler=anthropic.count_tokens, tag="Anthropic",
        summary="Count the tokens of a request", request=CountRequest, leaves_out=True,
        response=CountOut, errors="anthropic",
    ),
    Route(
        method="POST", path="/v1/responses", guard="infer", handler=responses.create, tag="Responses", streams=True,
        summary="Create a response, now or in the background", request=ResponsesRequest, leaves_out=True,
        response=ResponseOut,
        deferrable=True,
    ),
    Route(
        method="POST", path="/v1/responses/input_tokens", guard="infer", handler=responses.input_tokens,
        tag="Responses", summary="Count the input tokens of a response", request=ResponsesRequest, leaves_out=True,
        response=InputTokens,
    ),
    Route(
        method="GET", path="/v1/responses/{response}", guard="infer", handler=responses.retrieve, tag="Responses",
        streams=True, summary="Get a stored response, or follow a background one", response=ResponseOut,
        query=responses.RETRIEVED_WITH,
    ),
    Route(
        method="POST", path="/v1/responses/{response}/cancel", guard="infer", handler=responses.cancel,
        tag="Responses", summary="Cancel a background response", response=ResponseOut,
    ),
    Route(
        method="GET", path="/v1/responses/{response}/input_items", guard="infer", handler=responses.input_items,
        tag="Responses", summary="List the input items of a stored response", response=ItemList,
    ),
    Route(
        method="DELETE", path="/v1/responses/{response}", guard="infer", handler=responses.delete, tag="Responses",
        summary="Delete a stored response", response=ResponseDeleted,
    ),
    Route(
        method="POST", path="/v1/conversations", guard="infer", handler=conversations.create, tag="Conversations",
        summary="Create a conversation", request=ConversationRequest, body_optional=True,
        leaves_out=True, response=ConversationOut,
    ),
    Route(
        method="GET", path="/v1/conversations/{conversation}", guard="infer", handler=conversations.retrieve,
        tag="Conversations", summary="Get a conversation", response=ConversationOut,
    ),
    Route(
        method="POST", path="/v1/conversations/{conversation}", guard="infer", handler=conversations.update,
        tag="Conversations", summary="Replace the metadata of a conversation", request=ConversationUpdate,
        leaves_out=True, response=ConversationOut,
    ),
    Route(
        method="DELETE", path="/v1/conversations/{conversation}", guard="infer", handler=conversations.delete,
        tag="Conversations", summary="Delete a conversation with its items", response=ConversationDeleted,
    ),
    Route(
        method="POST", path="/v1/conversations/{conversation}/items", guard="infer", handler=conversations.add_items,
        tag="Conversations", summary="Add items to a conversation", request=ItemsRequest, leaves_out=True,
        response=ItemList,
    ),
    Route(
        method="GET", path="/v1/conversations/{conversation}/items", guard="infer", handler=conversations.list_items,
        tag="Conversations", summary="List the items of a conversation", response=ItemList,
        query=("after", "limit", "order"),
    ),
    Route(
        method="GET", path="/v1/conversations/{conversation}/items/{item}", guard="infer", handler=conversations.item,
        tag="Conversations", summary="Get an item of a conversation", response=ItemOut,
    ),
    Route(
        method="DELETE", path="/v1/conversations/{conversation}/items/{item}", guard="infer",
        handler=conversations.remove_item, tag="Conversations", summary="Delete an item of a conversation",
        response=ConversationOut,
    ),
    Route(
        method="POST", path="/v1/files", guard="infer", handler=files.upload, tag="Batches",
        summary="Upload a file", response=FileOut,
    ),
    Route(
        method="GET", path="/v1/files", guard="infer", handler=files.list_files, tag="Batches",
        summary="List files", response=FileList,
    ),
    Route(
        method="GET", path="/v1/files/{file}", guard="infer", handler=files.retrieve, tag="Batches",
        summary="Get the metadata of a file", response=FileOut,
    ),
    Route(
        method="GET", path="/v1/files/{file}/content", guard="infer", handler=files.content, tag="Batches",
        summary="Download a file", content_type="application/octet-stream",
    ),
    Route(
        method="DELETE", path="/v1/files/{file}", guard="infer", handler=files.delete, tag="Batches",
        summary="Delete a file", response=FileDeleted,
    ),
    Route(
        method="POST", path="/v1/batches", guard="infer", handler=batches.create, tag="Batches",
        summary="Create a batch from a file of requests", request=BatchRequest, response=BatchOut,
    ),
    Route(
        method="GET", path="/v1/batches", guard="infer", handler=batches.list_batches, tag="Batches",
        summary="List batches", response=BatchList,
    ),
    Route(
        method="GET", path="/v1/batches/{batch}", guard="infer", handler=batches.retrieve, tag="Batches",
        summary="Get a batch", response=BatchOut,
    ),
    Route(
        method="POST", path="/v1/batches/{batch}/cancel", guard="infer", handler=batches.cancel, tag="Batches",
        summary="Cancel a batch; finished results are kept", response=BatchOut,
    ),
    Route(
        method="GET", path="/v1/jobs", guard="infer", handler=jobs.list_jobs, tag="Jobs",
        summary="List jobs", response=JobList,
    ),
    Route(
        method="GET", path="/v1/jobs/{job}", guard="infer", handler=jobs.retrieve, tag="Jobs",
        summary="Get a job and its result", response=JobOut,
    ),
    Route(
        method="POST", path="/v1/jobs/{job}/cancel", guard="infer", handler=jobs.cancel, tag="Jobs",
        summary="Cancel a job", response=JobOut,
    ),
    Route(
        method="GET", path="/v1/models", guard="key", handler=openai.models, tag="OpenAI",
        summary="List the served models", response=ModelList,
    ),
    Route(
        method="GET", path="/v1/models/{model}", guard="key", handler=openai.model, tag="OpenAI",
        summary="Get one served model", response=ModelOut,
    ),
    Route(
        method="POST", path="/tokenize", guard="key", handler=tokens.tokenize, tag="vLLM",
        summary="Return the tokens of a prompt or conversation", request=TokenizeRequest, response=TokenizeOut,
    ),
    Route(
        method="POST", path="/detokenize", guard="key", handler=tokens.detokenize, tag="vLLM",
        summary="Return the text of tokens", request=DetokenizeRequest, response=DetokenizeOut,
    ),
    Route(
        method="GET", path="/api/version", guard="key", handler=ollama.version, tag="Ollama", errors="ollama",
        operation="ollama_version", summary="Tell which version of Ollama's API this is", response=OllamaVersion,
    ),
    Route(
        method="GET", path="/api/tags", guard="key", handler=ollama.tags, tag="Ollama", errors="ollama",
        operation="ollama_tags", summary="List the served models", response=OllamaTags,
    ),
    Route(
        method="GET", path="/api/ps", guard="key", handler=ollama.running, tag="Ollama", errors="ollama",
        operation="ollama_ps", summary="List the models that are ready", response=OllamaRunning,
    ),
    Route(
        method="POST", path="/api/show", guard="key", handler=ollama.show, tag="Ollama", errors="ollama",
        operation="ollama_show", summary="Tell what a model can do", request=OllamaShowRequest, response=OllamaShown,
    ),
    Route(
        method="POST", path="/api/chat", guard="key", handler=ollama.chat, tag="Ollama", errors="ollama",
        operation="ollama_chat", streams=True, repeats=True, summary="Generate the next message of a conversation",
        request=OllamaChatRequest, response=Piece,
    ),
    Route(
        method="POST", path="/api/generate", guard="key", handler=ollama.generate, tag="Ollama", errors="ollama",
        operation="ollama_generate", streams=True, repeats=True, summary="Answer or complete a prompt",
        request=OllamaGenerateRequest, response=Piece,
    ),
    Route(
        method="POST", path="/api/embed", guard="key", handler=ollama.embed, tag="Ollama", errors="ollama",
        operation="ollama_embed", summary="Create embeddings of texts", request=OllamaEmbedRequest,
        response=OllamaEmbeddings,
    ),
    Route(
        method="POST", path="/api/embeddings", guard="key", handler=ollama.embeddings, tag="Ollama", errors="ollama",
        operation="ollama_embeddings", summary="Create the embedding of a text", request=OllamaEmbeddingsRequest,
        response=OllamaEmbedding,
    ),
    Route(
        method="POST", path="/mcp/{server}", guard="key", handler=mcp, tag="Tools", operation="call_tools",
        summary="List and call the tools of a server, by the Model Context Protocol",
    ),
    Route(
        method="GET", path="/tokenizer_info", guard="key", handler=tokens.tokenizer_info, tag="vLLM",
        summary="Return the tokens that begin and end a text, and the chat template", response=TokenizerInfo,
        query=("model",),
    ),
    Route(
        method="GET", path="/", guard="open", handler=welcome, tag="Operation",
        summary="Show a browser what this server is, and how to ask it", content_type="text/html",
    ),
    Route(
        method="HEAD", path="/", guard="open", handler=welcome, tag="Operation", operation="welcome_head",
        summary="Check that something answers", content_type="text/html",
    ),
    Route(
        method="GET", path="/docs", guard="open", handler=docs, tag="Operation",
        summary="Show a browser the routes of the API", content_type="text/html",
    ),
    Route(
        method="GET", path="/version", guard="key", handler=operate.version, tag="Operation",
        summary="Tell the version", response=operate.Version,
    ),
    Route(
        method="GET", path="/ping", guard="open", handler=operate.ping, tag="Operation",
        summary="The same as /healthz, under the name that hosting platforms know", response=operate.Health,
    ),
    Route(
        method="GET", path="/healthz", guard="open", handler=operate.healthz, tag="Operation",
        summary="Check that the process is alive", response=operate.Health,
    ),
    Route(
        method="GET", path="/health", guard="open", handler=operate.health, tag="Operation",
        summary="The same as /healthz, under the path that vLLM clients use", response=operate.Health,
    ),
    Route(
        method="GET", path="/readyz", guard="open", handler=operate.readyz, tag="Operation",
        summary="Check that every model is ready", response=operate.Readiness,
    ),
    Route(
        method="GET", path="/metrics", guard="operator", handler=operate.metrics, tag="Operation",
        summary="Get metrics in the Prometheus text format", content_type="text/plain",
    ),
    Route(
        method="GET", path="/v1/metrics", guard="operator", handler=operate.metrics, tag="Operation",
        operation="metrics_v1", summary="The same, where NVIDIA's servers have them", content_type="text/plain",
    ),
    Route(
        method="GET", path="/openapi.json", guard="operator", handler=operate.openapi, tag="Operation",
        summary="Get this OpenAPI document",
    ),
)  # fmt: skip
