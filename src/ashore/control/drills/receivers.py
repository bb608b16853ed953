"""A SIEM or a mail server of a twin: takes what comes over TLS, and appends it to a file.

A separate process that uses only the standard library: `python -I -S receivers.py KIND PORT TLS OUT`. KIND is `syslog`
(RFC 5425) or `mail` (RFC 5321 with STARTTLS); TLS is a folder with `node.pem` and `node.key`. While the file OUT.refuse
is there, mails are refused with what it says, and each refusal is a line of OUT.refused.
"""

import contextlib
import socketserver
import ssl
import sys
from pathlib import Path
from typing import BinaryIO, cast

LONGEST = 1 << 20
"""Bytes of one record or mail."""
MAIL_END = b"\n-- end --\n"
WAIT_S = 60.0


class Visit(socketserver.BaseRequestHandler):
    """One connection."""

    server: "Receiver"

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # a client may leave at any time
            self.request.settimeout(WAIT_S)
            self.talk()

    def talk(self) -> None:
        raise NotImplementedError

    def secure(self) -> BinaryIO:
        """Begin TLS, and return what is read from then on."""
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        return cast(BinaryIO, self.request.makefile("rb"))

    def keep(self, data: bytes, suffix: str = "") -> None:
        with open(f"{self.server.out}{suffix}", "ab", buffering=0) as file:
            file.write(data)


class Syslog(Visit):
    """Frames of a length, a space, and so many bytes. It closes in order once it has read all of them."""

    def talk(self) -> None:
        with self.secure() as stream:
            while size := self._size(stream):
                self.keep(stream.read(size) + b"\n")
        self.request.unwrap()

    def _size(self, stream: BinaryIO) -> int:
        digits = b""
        while (one := stream.read(1)).isdigit() and len(digits) < 8:
            digits += one
        return min(LONGEST, int(digits or b"0"))


class Mail(Visit):
    """As much as a client needs to leave a mail."""

    def talk(self) -> None:
        stream = cast(BinaryIO, self.request.makefile("rb"))
        self.say("220 twin")
        while line := stream.readline(LONGEST):
            match line[:4].upper():
                case b"EHLO":
                    self.say("250-twin\r\n250 STARTTLS")
                case b"STAR":
                    self.say("220 go")
                    stream = self.secure()
                case b"DATA":
                    self.say("354 go")
                    data = b""
                    while len(data) < LONGEST and (row := stream.readline(LONGEST)) not in (b".\r\n", b""):
                        data += row
                    self.say(self.judge(data))
                case b"QUIT":
                    return self.say("221 bye")
                case _:
                    self.say("250 ok")
        return None

    def judge(self, data: bytes) -> str:
        """Take a mail or refuse it, and return the answer."""
        refusal = Path(f"{self.server.out}.refuse")
        if refusal.exists():
            self.keep(b"refused\n", ".refused")
            return refusal.read_text()
        self.keep(data + MAIL_END)
        return "250 taken"

    def say(self, text: str) -> None:
        self.request.sendall(text.encode() + b"\r\n")


class Receiver(socketserver.ThreadingTCPServer):
    """Listens on loopback."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, kind: str, port: int, tls: Path, out: Path) -> None:
        self.tls, self.out = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), out
        self.tls.load_cert_chain(tls / "node.pem", tls / "node.key")
        super().__init__(("127.0.0.1", port), {"syslog": Syslog, "mail": Mail}[kind])


if __name__ == "__main__":
    _, kind, port, tls, out = sys.argv
    Receiver(kind, int(port), Path(tls), Path(out)).serve_forever()
