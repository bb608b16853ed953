"""LangChain's standard integration tests over three of its classes; run by `tests/acceptance/test_langchain.py`.

It is read by the interpreter that has `langchain-tests`, so it imports nothing of ashore and of its tests. Pictures,
sound and PDF stay at the classes' default, which skips them: the models behind it read text.
"""

from __future__ import annotations

import os
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

MODEL, ROOT, KEY = (os.environ[name] for name in ("SUITE_MODEL", "SUITE_ROOT", "SUITE_KEY"))
COMMON: dict[str, Any] = {"model": MODEL, "api_key": KEY, "max_retries": 0, "timeout": 300, "max_tokens": 400}


class Standard(ChatModelIntegrationTests):
    """What holds for all three."""

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return MODEL


class TestChat(Standard):
    """`/v1/chat/completions`."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**COMMON, "base_url": f"{ROOT}/v1", "use_responses_api": False, "stream_usage": True}


class TestResponses(Standard):
    """`/v1/responses`."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**COMMON, "base_url": f"{ROOT}/v1", "use_responses_api": True}


class TestMessages(Standard):
    """`/v1/messages`."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAnthropic

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**COMMON, "base_url": ROOT}

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True
