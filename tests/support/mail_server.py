"""A small mail server for tests, with STARTTLS, TLS from the start, or without TLS; it may refuse."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from syslog_server import certificate


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail as it came."""

    over_tls: bool
    sender: str
    to: tuple[str, ...]
    data: bytes


class MailServer:
    """Runs until `close`. `refuses`: the answer to a mail's data, `451 later`; empty: it takes them."""

    def __init__(self, folder: Path, tls: Literal["starttls", "from the start", "none"] = "starttls") -> None:
        self.ca, chain, key = certificate(folder / "mail-tls")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(chain, key)
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.mails: list[Mail] = []
        self.refuses = ""
        self.log_ins: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"{'smtps' if self._tls == 'from the start' else 'smtp'}://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(plain,), daemon=True).start()

    def _talk(self, stream: socket.socket) -> None:
        with ExitStack() as open_now, suppress(OSError):  # a client may leave at any time
            self._dialogue(open_now.enter_context(stream), open_now)

    def _dialogue(self, stream: socket.socket, open_now: ExitStack) -> None:
        over_tls = self._tls == "from the start"
        if over_tls:
            stream = open_now.enter_context(self._context.wrap_socket(stream, server_side=True))
        file = open_now.enter_context(stream.makefile("rb"))
        stream.sendall(b"220 test\r\n")
        sender, to = "", []
        while line := file.readline():
            words = line.decode().strip()
            verb = words[:4].upper()
            if verb == "EHLO":
                offers = ["test", *(["STARTTLS"] if self._tls == "starttls" and not over_tls else ["AUTH PLAIN"])]
                stream.sendall("".join(f"250{'-' if one != offers[-1] else ' '}{one}\r\n" for one in offers).encode())
            elif verb == "STAR":
                stream.sendall(b"220 go\r\n")
                stream = open_now.enter_context(self._context.wrap_socket(stream, server_side=True))
                file, over_tls = open_now.enter_context(stream.makefile("rb")), True
            elif verb == "AUTH":
                self.log_ins.append(words.split()[-1])
                stream.sendall(b"235 ok\r\n")
            elif verb == "MAIL":
                sender, to = words[10:].partition(">")[0].strip("<"), []
                stream.sendall(b"250 ok\r\n")
            elif verb == "RCPT":
                to.append(words[8:].strip("<> "))
                stream.sendall(b"250 ok\r\n")
            elif verb == "DATA":
                stream.sendall(b"354 go\r\n")
                data = b""
                while (row := file.readline()) not in (b".\r\n", b""):
                    data += row
                if self.refuses:
                    stream.sendall(self.refuses.encode() + b"\r\n")
                    continue
                self.mails.append(Mail(over_tls, sender, tuple(to), data))
                stream.sendall(b"250 taken\r\n")
            elif verb == "QUIT":
                stream.sendall(b"221 bye\r\n")
                return
            else:
                stream.sendall(b"250 ok\r\n")
