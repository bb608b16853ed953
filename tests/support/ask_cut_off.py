"""Run inside a network namespace that has nothing but loopback: start `ashore up`, ask it something, stop it.

Usage: ask_cut_off.py HOME MODEL [QUESTION [STORE]]
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
from pathlib import Path

import openai
from served import start_served

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
"""netdevice(7)."""


def raise_loopback() -> None:
    """Bring `lo` up, which a new namespace has down."""
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def main(home: str, model: str, question: str = "ping", store: str = "") -> int:
    raise_loopback()
    assert {name for _, name in socket.if_nameindex()} == {"lo"}
    server = start_served(Path(home), [model], store=Path(store) if store else None, port=8080, grpc_port=8081)
    try:
        with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0) as api:
            answer = api.chat.completions.create(
                model=model, messages=[{"role": "user", "content": question}], max_tokens=32, temperature=0
            )
            print("answer:", answer.choices[0].message.content)
    except Exception:
        print(server.everything_said())
        raise
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
