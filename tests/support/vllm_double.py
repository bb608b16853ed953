"""A server that speaks vLLM's form of the completions API over the fake engine, for testing without a GPU."""

from __future__ import annotations

import contextlib
import itertools
import json
import select
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ashore.core.ids import OrderId
from ashore.data.engines import EngineOptions, Finished, GenerateOrder, Sampling, ScoreText, Token, scored
from ashore.data.engines.fake.engine import FakeEngine
from ashore.data.engines.fake.files import fake_model_files

_PROGRAM = """#!{python}
import os, signal, sys
sys.path.insert(0, {support!r})
from vllm_double import VllmDouble
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
port = int(sys.argv[sys.argv.index("--port") + 1])
double = VllmDouble("fake:echo?context=8192", port=port, api_key=os.environ["VLLM_API_KEY"])
signal.sigwait([signal.SIGTERM])
double.close()
"""
"""A `vllm` that serves on the port and with the key that ashore gives it, until SIGTERM."""


def write_program(path: Path) -> Path:
    """Write an executable that stands for `vllm`, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_PROGRAM.format(python=sys.executable, support=str(Path(__file__).parent)))
    path.chmod(0o755)
    return path


class VllmDouble:
    """Listens on a loopback port until closed; port 0 is any free one.

    `bodies` are the requests it saw, `aborted` counts closed streams, `connections` those that were made.
    """

    def __init__(
        self, name: str, *, api_key: str = "", port: int = 0, certificate: tuple[str, str] | None = None
    ) -> None:
        """Begin to listen; with a `certificate` (PEM files of it and its key) over TLS."""
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        """Of these requests, by lower-case name."""
        self.aborted = 0
        self.broken = 0
        """Kept connections that it broke."""
        self.connections = 0
        self.api_key = api_key
        self.break_off_after = 0
        """Tokens after which a stream is cut without an end; 0 is never."""
        self.refuses: list[int] = []
        """Statuses with which the next requests are refused."""
        self.drops = 0
        """Streams that are cut off before their first token."""
        self.breaks_kept = False
        """Whether a connection breaks at its second order, without a byte, as llama-server's do."""
        self.is_well = True
        """False: `/health` answers 503."""
        self.resumes = False
        """Whether it takes `begun`, as a node of ashore does."""
        self.can_sleep = False
        """Whether it runs with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1."""
        self.is_asleep = False
        self.adapters: dict[str, str] = {}
        self.goes_on = threading.Event()
        """Not set: the server hangs, and neither answers a question nor goes on with a stream."""
        self.goes_on.set()
        self._open: set[socket.socket] = set()
        self._name = name
        self._numbers = itertools.count()
        self._directory = tempfile.TemporaryDirectory()
        self._server = _Server(("127.0.0.1", port), self._handler())
        if certificate is not None:
            trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trust.load_cert_chain(*certificate)
            self._server.socket = trust.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "https" if certificate else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def close(self) -> None:
        self.goes_on.set()
        self._server.shutdown()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()
        self._directory.cleanup()

    def engine(self) -> FakeEngine:
        engine = FakeEngine()
        engine.load(fake_model_files(self._name, Path(self._directory.name)), EngineOptions(kind="fake"))
        return engine

    def stream(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the chunks of a streamed completion."""
        engine = self.engine()
        names = (
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "presence_penalty",
            "frequency_penalty",
            "repetition_penalty",
        )
        sampling = {name: body[name] for name in (*names, "seed", "min_tokens") if name in body}
        bias = {int(token): value for token, value in body.get("logit_bias", {}).items()}
        stops = body.get("stop_token_ids", [])
        engine.submit(
            GenerateOrder(
                order_id=OrderId(f"cmpl-{next(self._numbers)}"),
                prompt_ids=body["prompt"],
                begun=body.get("begun", 0),
                max_new_tokens=body["max_tokens"],
                stop_token_ids=tuple(stops),
                sampling=Sampling(**sampling, logit_bias=bias),
                top_logprobs=body.get("logprobs"),
                ignore_eos=not stops,
            )
        )
        while True:
            for event in engine.step(0.05):
                if isinstance(event, Token):
                    yield {"choices": [{"index": 0, "text": "?", "token_ids": [event.token_id], **_logprobs(event)}]}
                    continue
                assert isinstance(event, Finished), event
                last = [] if event.stop_token_id is None else [event.stop_token_id]
                end = {"token_ids": last, "finish_reason": event.reason, "stop_reason": event.stop_token_id}
                yield {"choices": [{"index": 0, "text": "", "logprobs": None, **end}]}
                details = {"cached_tokens": event.cached_tokens}
                usage = {"prompt_tokens": event.prompt_tokens, "prompt_tokens_details": details}
                yield {"choices": [], "usage": usage}
                return

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return a whole answer: scores of a prompt, or embeddings."""
        if path == "/v1/embeddings":
            vectors = self.engine().embed(body["input"])
            return {"data": [{"index": n, "embedding": vector} for n, vector in enumerate(vectors)]}
        [rows] = scored(self.engine(), [ScoreText(body["prompt"])], top_logprobs=body["prompt_logprobs"])
        found = [{str(entry.token_id): {"logprob": entry.logprob, "rank": 1} for entry in row} for row in rows]
        return {"choices": [{"index": 0, "text": "", "token_ids": [1], "prompt_logprobs": [None, *found]}]}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                double.connections += 1
                double._open.add(self.request)
                super().setup()

            def finish(self) -> None:
                double._open.discard(self.request)
                super().finish()

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

            def do_GET(self) -> None:
                double.goes_on.wait()
                models: list[dict[str, Any]] = [{"id": "the-model", "max_model_len": 512}]
                if double.resumes:
                    models[0] |= {"owned_by": "ashore", "features": ["resume"]}
                models += [{"id": name, "parent": "the-model"} for name in double.adapters]
                answers = {"/health": {}, "/v1/models": {"data": models}, "/version": {"version": "0.0-double"}}
                if self.path == "/is_sleeping":
                    self._send(200 if double.can_sleep else 404, {"is_sleeping": double.is_asleep})
                    return
                is_well = double.is_well or self.path != "/health"
                self._send(200 if is_well else 503, answers[self.path])

            def do_POST(self) -> None:
                self.orders = getattr(self, "orders", 0) + 1
                if double.breaks_kept and self.orders > 1:
                    double.broken += 1
                    self.close_connection = True
                    return
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                double.bodies.append(body)
                double.headers.append({name.lower(): value for name, value in self.headers.items()})
                if double.api_key and self.headers.get("Authorization") != f"Bearer {double.api_key}":
                    self._send(401, {"error": {"message": "Unauthorized"}})
                elif double.refuses:
                    self._send(double.refuses.pop(0), {"error": {"message": "not now"}})
                elif self.path in ("/sleep?level=1", "/wake_up"):
                    double.is_asleep = double.can_sleep and self.path != "/wake_up"
                    self._send(200 if double.can_sleep else 404, {})
                elif double.is_asleep:
                    self._send(500, {"error": {"message": "the engine is asleep"}})
                elif self.path == "/v1/load_lora_adapter":
                    double.adapters[body["lora_name"]] = body["lora_path"]
                    self._send(200, {})
                elif body.get("prompt", [0])[0] == 13 and len(body["prompt"]) == 1:
                    self._send(400, {"error": {"message": "unlucky prompt"}})
                elif body.get("stream"):
                    self._stream(body)
                else:
                    self._send(200, double.answer(self.path, body))

            def _send(self, status: int, answer: dict[str, Any]) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(OSError):  # whoever asked may be gone
                    self.wfile.write(data)

            def _stream(self, body: dict[str, Any]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                if double.drops:
                    double.drops -= 1
                    return
                for number, chunk in enumerate(double.stream(body)):
                    double.goes_on.wait()
                    gone = bool(select.select([self.connection], [], [], 0)[0])
                    if gone or (double.break_off_after and number >= double.break_off_after):
                        double.aborted += gone
                        return
                    try:
                        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                    except OSError:
                        double.aborted += 1
                        return
                self.wfile.write(b"data: [DONE]\n\n")

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128


def _logprobs(token: Token) -> dict[str, Any]:
    if token.logprob is None:
        return {"logprobs": None}
    best = {f"token_id:{entry.token_id}": entry.logprob for entry in token.top}
    return {
        "logprobs": {
            "tokens": [f"token_id:{token.token_id}"],
            "token_logprobs": [token.logprob],
            "top_logprobs": [{f"token_id:{token.token_id}": token.logprob, **best}],
        }
    }
