"""Work that is handed in and asked for later: background responses, requests that were put off, batches."""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import httpx
import openai
from benchmarks.trace.clients import Setting, fault_of, openai_client
from benchmarks.trace.model import AcceptedJob

T = TypeVar("T")

PATIENCE_S = 90.0
"""Longest time for which the client of a job tries to hand it in or to ask for it."""
ENDED = frozenset(("completed", "incomplete", "succeeded", "failed", "cancelled", "expired", "dead"))


class Hooks:
    """A receiver of webhooks."""

    def __init__(self) -> None:
        self.events: dict[str, list[str]] = {}
        """Ids of the events that came, by job."""
        took = self.events

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                took.setdefault(body["data"]["id"], []).append(self.headers["webhook-id"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="hooks", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/told"

    def close(self) -> None:
        """Stop receiving."""
        self._server.shutdown()
        self._server.server_close()


@dataclass(slots=True)
class Clerks:
    """Clients that hand work in, and at the end ask what became of it."""

    setting: Setting
    hooks: Hooks
    batch_lines: int
    every_s: float = 0.5
    accepted: list[AcceptedJob] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """What was not accepted for another reason than that somebody was dead."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _numbers: Any = field(default_factory=itertools.count)

    def start(self) -> None:
        """Hand in a batch, and from time to time a background response and a request that may be put off."""
        for name, work in (("responses", self._responses), ("deferred", self._deferred), ("batch", self._first_batch)):
            thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Hand nothing more in."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _run(self, work: Callable[[openai.OpenAI], None]) -> None:
        try:
            with openai_client(self.setting) as api:
                work(api)
        except (openai.OpenAIError, httpx.HTTPError, KeyError, ValueError) as fault:
            self.refused.append(f"{threading.current_thread().name}: {type(fault).__name__} {fault}"[:300])

    def _responses(self, api: openai.OpenAI) -> None:
        while not self._stop.wait(self.every_s):
            self.respond(api)

    def _deferred(self, api: openai.OpenAI) -> None:
        while not self._stop.wait(3 * self.every_s):
            self._defer(api)

    def _first_batch(self, api: openai.OpenAI) -> None:
        self.hand_in_batch(api, self.batch_lines)

    def burst(self, responses: int, lines: int) -> None:
        """Hand in so much at once that most of it is still waiting afterwards."""
        with openai_client(self.setting) as api:
            for _ in range(responses):
                self.respond(api)
            if lines:
                self.hand_in_batch(api, lines)

    def respond(self, api: openai.OpenAI) -> None:
        """Hand in one background response; the second attempt has the key of the first."""
        number = next(self._numbers)
        key, question = f"response-{number}", f"Background {number}: what does {number} mean to a sailor?"
        job = AcceptedJob(job_id="", key=key, kind="response", question=question, accepted_s=-1)
        headers = {"idempotency-key": key, "x-ashore-webhook": self.hooks.url}

        def ask() -> str:
            answer = api.responses.create(
                model=self.setting.chat,
                input=question,
                background=True,
                temperature=0,
                max_output_tokens=self.setting.max_tokens,
                extra_headers=headers,
            )
            return answer.id

        self._accept(job, ask)

    def _defer(self, api: openai.OpenAI) -> None:
        """Ask for what cannot be there in time, and allow that it comes later."""
        number = next(self._numbers)
        key, question = f"deferred-{number}", f"Deferred {number}: what would {number} lighthouses cost?"
        job = AcceptedJob(job_id="", key=key, kind="deferred", question=question, accepted_s=-1)

        def ask() -> str:
            raw = api.chat.completions.with_raw_response.create(
                model=self.setting.chat,
                messages=[{"role": "user", "content": question}],
                temperature=0,
                max_tokens=self.setting.max_tokens,
                extra_headers={"x-ashore-defer": "allow", "x-ashore-deadline-ms": "20", "idempotency-key": key},
            )
            return str(json.loads(raw.content)["id"]) if raw.status_code == 202 else ""

        self._accept(job, ask)

    def hand_in_batch(self, api: openai.OpenAI, lines: int) -> None:
        """Upload a file and make a batch of it."""
        number = next(self._numbers)
        key = f"batch-{number}"
        questions = [f"Line {line} of batch {number}: name {line} things that float." for line in range(lines)]
        body: dict[str, Any] = {"model": self.setting.chat, "max_tokens": self.setting.max_tokens, "temperature": 0}
        if self.setting.exact_tokens:
            body["ignore_eos"] = True
        text = "".join(
            json.dumps(
                {
                    "custom_id": question,
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": {**body, "messages": [{"role": "user", "content": question}]},
                }
            )
            + "\n"
            for question in questions
        )
        file = patiently(
            lambda: api.files.create(file=("questions.jsonl", io.BytesIO(text.encode())), purpose="batch").id
        )
        job = AcceptedJob(job_id="", key=key, kind="batch", question="", accepted_s=-1, lines=lines)
        headers = {"idempotency-key": key, "x-ashore-webhook": self.hooks.url}
        self._accept(
            job,
            lambda: (
                api.batches.create(
                    input_file_id=file,
                    endpoint="/v1/chat/completions",
                    completion_window="24h",
                    extra_headers=headers,
                ).id
            ),
        )

    def _accept(self, job: AcceptedJob, ask: Callable[[], str]) -> None:
        job_id = patiently(ask)
        if not job_id:
            return  # it was answered in time
        job.job_id, job.accepted_s = job_id, self.setting.now_s()
        job.ids.add(job_id)
        self.accepted.append(job)
        if job.kind == "response" and len(self.accepted) % 5 == 0:
            job.ids.add(patiently(ask))  # as a client does that did not see the first answer

    def settle(self, within_s: float) -> None:
        """Wait until every accepted job has ended or the time is over, and note what became of each."""
        until = time.monotonic() + within_s
        open_jobs = list(self.accepted)
        with openai_client(self.setting) as api:
            while open_jobs and time.monotonic() < until:
                open_jobs = [job for job in open_jobs if not self._look(api, job)]
                time.sleep(0.3)

    def _look(self, api: openai.OpenAI, job: AcceptedJob) -> bool:
        """Note how a job stands, and return whether it has ended."""
        try:
            match job.kind:
                case "response":
                    response = api.responses.retrieve(job.job_id)
                    job.state, job.text = str(response.status), response.output_text
                case "deferred":
                    told = api.get(f"/jobs/{job.job_id}", cast_to=dict[str, Any])
                    job.state = str(told["status"])
                    if told.get("response"):
                        choice = told["response"]["body"]["choices"][0]
                        job.text = choice["message"]["content"]
                case "batch":
                    self._look_at_batch(api, job)
        except openai.NotFoundError:
            job.state = "gone"
            return True
        except openai.APIError as fault:
            job.state = f"unknown: {fault_of(fault)[1]}"
            return False
        ended = job.state in ENDED
        if ended:
            job.finished_s = self.setting.now_s()
            if job.state in ("succeeded", "incomplete"):
                job.state = "completed"
        return ended

    def _look_at_batch(self, api: openai.OpenAI, job: AcceptedJob) -> None:
        batch = api.batches.retrieve(job.job_id)
        job.state = batch.status
        if batch.status != "completed":
            return
        assert batch.request_counts is not None
        job.failed_lines = batch.request_counts.failed
        job.results.clear()
        if batch.output_file_id is not None:
            for line in api.files.content(batch.output_file_id).text.splitlines():
                one = json.loads(line)
                text = one["response"]["body"]["choices"][0]["message"]["content"]
                job.results.setdefault(one["custom_id"], []).append(text)


def patiently(ask: Callable[[], T]) -> T:
    """Ask until it works. What says that trying again is no use is raised at once.

    Raises:
        openai.APIError: it never worked.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except openai.APIError as fault:
            status = getattr(fault, "status_code", 0) or 0
            if (400 <= status < 500 and status not in (408, 409, 429)) or time.monotonic() > until:
                raise
            time.sleep(0.3)
