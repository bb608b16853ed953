"""Targets that read what comes over a socket: HTTP/1.1, frames, forms, tokens of issuers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httptools
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from tests.fuzz.target import Check, Target, split_by

from ashore.core.errors import AshoreError, InvalidRequest, Unauthenticated
from ashore.core.ids import OrderId
from ashore.data.authority import Issuer, JwtVerifier
from ashore.data.engines import frames
from ashore.data.engines.model import GenerateOrder, Grammar, Sampling, ScoreText, Token
from ashore.data.http.multipart import Data, FormReader, Part, boundary_of
from ashore.data.http.server.server import HttpServer
from ashore.data.path import Limits
from ashore.kit.decode import UNDECODABLE

# --- HTTP/1.1


class _Answers:
    """Counts the responses in what a server wrote."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.closed = False
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.closed = self.closed or (name, value) == (b"connection", b"close")

    def on_message_begin(self) -> None:
        assert not self.closed, "an answer after one that ends the connection"

    def on_headers_complete(self) -> None:
        if self.parser.get_status_code() >= 200:
            self.statuses.append(self.parser.get_status_code())


class _Asked:
    """An application that reads the body and answers with its length; keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes, bytes]] = []
        self.faults: list[object] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._answer(scope, receive, send)
        except Exception as fault:  # the server closes the connection then, and says nothing of why
            self.faults.append(fault)
            raise

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        assert sum(len(name) + len(value) for name, value in scope["headers"]) <= 65_536
        body, more, status, at = b"", True, 200, len(self.calls)
        self.calls.append((scope["method"], scope["raw_path"], b"its body has not come"))
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body, more = body + message["body"], message["more_body"]
        except AshoreError as fault:
            status = fault.http_status
        self.calls[at] = (*self.calls[at][:2], body if status == 200 else b"it is refused")
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else b"whole"})


class _HttpRig:
    """A server on a unix socket, and a loop that runs only while an input is read."""

    def __init__(self, folder: Path, at_end: ExitStack) -> None:
        self.loop = asyncio.new_event_loop()
        at_end.callback(self.loop.close)
        self.app = _Asked()
        self.loop.set_exception_handler(lambda loop, context: self.app.faults.append(context))
        self.place = str(folder / "http.sock")
        sock = at_end.enter_context(socket.socket(socket.AF_UNIX))
        sock.bind(self.place)
        sock.listen()
        self.server = HttpServer(self.app, sock, Limits())
        self.loop.run_until_complete(self._start())
        at_end.callback(lambda: self.loop.run_until_complete(self.server.stop()))

    async def _start(self) -> None:
        self.server.start()

    def check(self, data: bytes) -> None:
        calls, statuses = self.loop.run_until_complete(self._asked([data]))
        calls_of_split, statuses_of_split = self.loop.run_until_complete(self._asked(split_by(data, 4096)))
        assert calls_of_split == calls, "split, it is read otherwise"
        few, many = sorted((statuses, statuses_of_split), key=len)
        assert many[: len(few)] == few and len(many) - len(few) <= 1  # what is no HTTP may be refused, or closed upon
        last = b"POST /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
        after_the_last = self.loop.run_until_complete(self._asked([last, data]))
        assert after_the_last == ([("POST", b"/last", b"ok")], [200]), "it read on after the last request"

    async def _asked(self, pieces: list[bytes]) -> tuple[list[tuple[str, bytes, bytes]], list[int]]:
        """Send pieces and the end; return what the application was asked, and the statuses that came."""
        self.app.calls, answers = [], _Answers()
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            async with asyncio.timeout(20):
                await self.loop.sock_connect(client, self.place)
                with contextlib.suppress(OSError):  # it closes as soon as it has answered what is no HTTP
                    for piece in pieces:
                        await self.loop.sock_sendall(client, piece)
                        for _ in range(3):
                            await asyncio.sleep(0)
                        assert self.server.held <= sum(map(len, pieces)) + 131_072
                    client.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    while got := await self.loop.sock_recv(client, 65_536):
                        answers.parser.feed_data(got)
        for _ in range(100):
            if not self.server.held:
                break
            await asyncio.sleep(0)
        assert not self.app.faults, self.app.faults
        assert not self.server.held, "bytes of a connection that is gone are still counted"
        assert not [status for status in answers.statuses if status >= 500 and status != 505], answers.statuses
        return self.app.calls, answers.statuses


def _http_seeds() -> tuple[bytes, ...]:
    chunked = b"POST /c?q=1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nt: 1\r\n\r\n"
    length = b"POST /b%20c HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello"
    return (
        b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
        length + chunked + length,
        chunked + b"HEAD /x HTTP/1.1\r\nhost: a\r\n\r\n" * 3,
        b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
        b"GET http://a:1/b?c HTTP/1.1\r\nhost: a\r\n\r\nOPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\nbytes",
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\nPRI * ",
    )


HTTP: Final = Target(
    name="http",
    seeds=_http_seeds,
    open=lambda folder, at_end: _HttpRig(folder, at_end).check,
    words=(
        *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"%00", b"%"),
        *(b"content-length: 5\r\n", b"content-length: +5\r\n", b"content-length: 18446744073709551616\r\n"),
        *(b"transfer-encoding: chunked\r\n", b"transfer-encoding: gzip, chunked\r\n", b"transfer-encoding: x\r\n"),
        *(b"connection: close\r\n", b"connection: keep-alive\r\n", b"upgrade: websocket\r\n", b"host: b\r\n"),
        *(
            b"expect: 100-continue\r\n",
            b" folded\r\n",
            b"HTTP/1.1",
            b"HTTP/2.0",
            b"HTTP/0.9",
            b"http://",
            b"://[",
            b"//",
        ),
        *(b"x: " + b"y" * 600 + b"\r\n", b"x:\r\n" * 50, b"POST /z HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ),
)


# --- frames


def _frames_check(folder: Path, at_end: ExitStack) -> Check:
    def check(data: bytes) -> None:
        try:
            whole = frames.FrameReader().feed(data)
        except InvalidRequest:
            whole = None
        reader, split = frames.FrameReader(), []
        try:
            for piece in split_by(data, 64):
                split += reader.feed(piece)
        except InvalidRequest:
            assert whole is None
        else:
            assert split == whole
        for body in (*(whole or ()), data):
            for decode in (frames.decode_to_host, frames.decode_to_worker):
                try:
                    message = decode(body)
                except UNDECODABLE:
                    continue
                assert decode(frames.encode(message)[4:]) == message or b"\xca" in body or b"\xcb" in body  # nan

    return check


def _frame_seeds() -> tuple[bytes, ...]:
    order = GenerateOrder(
        order_id=OrderId("req_1/0"), prompt_ids=[1, 2, 3], max_new_tokens=5, sampling=Sampling(temperature=0.5),
        grammar=Grammar(kind="regex", text="a+"), adapter="x", stop_token_ids=(2,),
    )  # fmt: skip
    messages = (
        frames.Generate(order),
        frames.Cancel(OrderId("a")),
        frames.Embed(1, [[1, 2], [3]]),
        frames.Score(1, [ScoreText([1], [2])], 3),
        frames.GetStats(1),
        frames.Drain(),
        frames.Events([Token(order_id=OrderId("a"), token_id=5)]),
        frames.Vectors(1, [[0.5, 1.5]]),
        frames.Rows(1, b"1234", True),
        frames.Farewell(),
    )
    one = tuple(frames.encode(message) for message in messages)
    return (*one, b"".join(one))


FRAMES: Final = Target(
    name="frames",
    seeds=_frame_seeds,
    open=_frames_check,
    words=(
        *(b"\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc1"),
        *(
            b"\xdb\0\0\0\x02\xff\xfe",
            b"\xa2\xff\xfe",
            b"\xa3\xed\xa0\x80",
            b"\x91" * 900,
            b"\x81\xa1a" * 400,
            b"\xc7\0",
        ),
        *(b"\xcf" + b"\xff" * 8, b"\xd3\x80" + b"\0" * 7, b"\xca\x7f\x80\0\0", b"\xcb\x7f\xf8" + b"\0" * 6),
    ),
)


# --- forms


def _form(data: bytes, pieces: list[bytes]) -> list[tuple[Part, bytes]] | None:
    reader, parts = FormReader(b"cut"), []
    try:
        for piece in pieces:
            for found in reader.feed(piece):
                if isinstance(found, Data):
                    parts[-1] = (parts[-1][0], parts[-1][1] + found.piece)
                else:
                    parts.append((found, b""))
        reader.end()
    except InvalidRequest:
        return None
    return parts


def _form_check(folder: Path, at_end: ExitStack) -> Check:
    def check(data: bytes) -> None:
        whole = _form(data, [data])
        assert _form(data, split_by(data, 400)) == whole, "split, the form is read otherwise"
        assert whole is None or sum(len(body) for _, body in whole) <= len(data)
        with contextlib.suppress(InvalidRequest):
            boundary_of(data)

    return check


MULTIPART: Final = Target(
    name="multipart",
    seeds=lambda: (
        b'--cut\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--cut\r\ncontent-disposition: form-data; name="file"; filename="a\\"b.jsonl"\r\n'
        b"content-type: text/plain\r\n\r\nline\r\n--cu\r\n\r\n--cut--\r\n",
        b"multipart/form-data; boundary=cut",
        b'multipart/form-data; boundary="c u t"',
    ),
    open=_form_check,
    words=(
        b"--cut",
        b"--cut--",
        b"\r\n--cut\r\n",
        b"\r\n",
        b"\r",
        b'name="',
        b"\\",
        b'filename="',
        b"\xff",
        b"\r\n\r\n",
    ),
    most_bytes=16_384,
)


# --- tokens of issuers

NOW: Final = 1_700_000_000.0
_KEY: Final = ec.derive_private_key(7, ec.SECP256R1())
_ISSUER: Final = Issuer(
    name="corp", issuer="https://id.example", audience="ashore", jwks_file="/keys.json", algorithms=("ES256",),
    tenant_claim="tenant", groups_claim="groups", roles_claim="realm.roles",
)  # fmt: skip


def _jwt_check(folder: Path, at_end: ExitStack) -> Check:
    verifier = JwtVerifier((_ISSUER,))
    verifier.take_keys("corp", {"keys": [jwt.algorithms.ECAlgorithm.to_jwk(_KEY.public_key(), as_dict=True)]})

    def check(data: bytes) -> None:
        if data[:1] == b"s":  # claims that the issuer did sign
            signing = b".".join(jwt.utils.base64url_encode(p) for p in (b'{"alg":"ES256"}', data[1:]))
            signature = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign(signing, _KEY)
            data = signing + b"." + jwt.utils.base64url_encode(signature)
        elif data[:1] == b"h":  # a head of any form
            data = b".".join(jwt.utils.base64url_encode(p) for p in (data[1:], b'{"iss":"https://id.example"}', b"x"))
        try:
            found = verifier.verify(data.decode("latin-1"), NOW)
        except Unauthenticated as fault:
            assert len(fault.message) < 500
        else:
            assert found.issuer == "corp" and found.tenant and found.subject and found.expires_s > NOW

    return check


def _jwt_seeds() -> tuple[bytes, ...]:
    claims = {
        "iss": _ISSUER.issuer, "aud": ["ashore"], "sub": "alice", "iat": NOW - 10, "exp": NOW + 600, "nbf": NOW,
        "tenant": "bank", "groups": ["dev"], "realm": {"roles": ["developer"]}, "amr": ["otp"], "jti": "1",
    }  # fmt: skip
    head = {"alg": "ES256", "kid": "1", "typ": "JWT"}
    return (
        jwt.encode(claims, _KEY, "ES256").encode(),
        b"s" + json.dumps(claims).encode(),
        b"h" + json.dumps(head).encode(),
    )


JWT: Final = Target(
    name="jwt",
    seeds=_jwt_seeds,
    open=_jwt_check,
    words=(
        *(b".", b"..", b"=", b'"\\ud800"', b"1e400", b"NaN", b"9" * 400, b'"none"', b'"HS256"', b'"crit":["x"],'),
        *(b'"b64":false,', b"[[[[", b"{}", b"[]", b"null", b"\xff", b'"zip":"DEF",', b'"kid":{},', b'"alg":[],'),
    ),
    num_cases=300,
)
