"""A teacher behind somebody's OpenAI-compatible server. Questions leave this machine only where that is allowed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec

from ashore.core import UNDECODABLE
from ashore.errors import PermissionDenied, RemoteRefused, SourceUnreachable
from ashore.jobs import LOOPBACK, check_addresses, check_url, parse_allow
from ashore.optimize.distilling.answers import Answer, Keep, Question
from ashore.optimize.distilling.model import ApiSource

AT_ONCE: Final = 8
TRIES: Final = 5
TIMEOUT_S: Final = 300.0
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 60.0


class _Choice(msgspec.Struct):
    message: dict[str, Any] = {}
    text: str = ""
    finish_reason: str | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice]


class ApiTeacher:
    """An `Answerer` over HTTP: `/chat/completions` for conversations, `/completions` for texts."""

    def __init__(
        self, url: str, model: str, *, allow: Sequence[str] = (), key: str = "", first_wait_s: float = _FIRST_WAIT_S
    ) -> None:
        """Check the address; nothing is called yet.

        Args:
            url: `https://HOST/v1`.
            model: The name that the server knows.
            allow: Entries as of `[egress] allow`; loopback needs none.
            key: Sent as a bearer token.
            first_wait_s: Before the second try; doubled for each further one.

        Raises:
            PermissionDenied: it is no address, or not an allowed one.
            SourceUnreachable: its name has no address.
        """
        self.name = f"{model} at {url}"
        self._model, self._first_wait_s = model, first_wait_s
        try:
            target = check_url(url.rstrip("/"), parse_allow([*LOOPBACK, *allow]))
        except PermissionDenied as error:
            host = urlsplit(url).netloc.rpartition("@")[2] or url
            raise PermissionDenied(
                f"the teacher {url} is outside: {error.message}",
                hint=f"if your data may be sent there, say so: --allow-egress {host}",
            ) from error
        found = [target.host] if target.literal else _resolve(target.host, target.port)
        address = check_addresses(target, found)
        place = f"[{address}]" if ":" in address else address
        self._base = f"{target.scheme}://{place}:{target.port}{target.path.rstrip('/')}"
        self._headers = {"host": target.authority, "user-agent": "ashore"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._extensions = {"sni_hostname": target.host}

    def answer(self, questions: Mapping[int, Question], *, max_tokens: int, keep: Keep) -> None:
        """See `Answerer`.

        Raises:
            RemoteRefused: the server said no, in its own words. SourceUnreachable: it did not answer, five times.
        """
        asyncio.run(self._answer_all(questions, max_tokens, keep))

    async def _answer_all(self, questions: Mapping[int, Question], max_tokens: int, keep: Keep) -> None:
        left = iter(questions.items())

        async def lane(client: httpx.AsyncClient) -> None:
            for number, question in left:
                keep(await self._ask(client, number, question, max_tokens))

        async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=TIMEOUT_S) as client:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(AT_ONCE, len(questions))):
                        group.create_task(lane(client))
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from failures

    async def _ask(self, client: httpx.AsyncClient, number: int, question: Question, max_tokens: int) -> Answer:
        body: dict[str, Any] = {"model": self._model, "max_tokens": max_tokens, "temperature": 0}
        if question.messages:
            path = "/chat/completions"
            body["messages"] = [{"role": role, "content": content} for role, content in question.messages]
        else:
            path = "/completions"
            body["prompt"] = question.prompt
        reply = await self._post(client, path, body)
        try:
            choice = msgspec.json.decode(reply, type=_Reply).choices[0]
        except (*UNDECODABLE, IndexError) as error:
            raise RemoteRefused(f"{self.name} answered what is no completion: {reply[:200]!r}") from error
        text = choice.message.get("content") or "" if question.messages else choice.text
        return Answer(number=number, answer=str(text), reason=choice.finish_reason or "unknown")

    async def _post(self, client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> bytes:
        """Return the body of a good answer; what may pass is tried again, with longer and longer waits."""
        wait_s, seen = self._first_wait_s, ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            try:
                reply = await client.post(
                    self._base + path, json=body, headers=self._headers, extensions=self._extensions
                )
            except httpx.TransportError as error:
                seen = f"{type(error).__name__} {error}"
                continue
            if reply.status_code == 200:
                return reply.content
            seen = f"status {reply.status_code}: {reply.text[:300]}"
            if reply.status_code != 429 and reply.status_code < 500:
                raise RemoteRefused(
                    f"{self.name} refused: {seen}", hint="check --teacher-model, and the key in ASHORE_TEACHER_KEY"
                )
            if reply.headers.get("retry-after", "").isdigit():
                wait_s = min(float(reply.headers["retry-after"]), _LONGEST_WAIT_S)
        raise SourceUnreachable(
            f"{self.name} did not answer in {TRIES} tries; last: {seen}",
            hint="run the same command again later: the answers so far are kept",
        )


def open_api(api: ApiSource) -> ApiTeacher:
    """Return the teacher behind a server; nothing is sent yet. Raises `PermissionDenied` where it may not be called."""
    return ApiTeacher(api.url, api.model, allow=api.allow, key=api.key)


def _resolve(host: str, port: int) -> list[str]:
    try:
        return [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise SourceUnreachable(f"{host} has no address: {error}", hint="check --teacher-url") from error
