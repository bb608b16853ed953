"""Run inside a network namespace: pull, prepare, serve and ask, while every packet to the outside world is captured.

The namespace gets a default route over a cable that ends nowhere, so that a program that wants out finds a way and is
seen: a look-up of a name, an attempt to connect. A packet of our own proves first that the capture sees such things.

Usage: capture_all.py HOME WEIGHTS.gguf QUESTION
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import openai
from loopback import raise_loopback
from served import start_served

ETH_P_ALL, PACKET_OUTGOING = 3, 4
"""packet(7)."""
WORLD = (
    "link add world type veth peer name beyond",
    "addr add 10.9.9.1/24 dev world",
    "link set world up",
    "link set beyond up",
    "route add default dev world",
)
OUTSIDE = ("10.9.9.9", 9)


class Capture:
    """Packets that leave over one interface, from now on."""

    def __init__(self, interface: str) -> None:
        self.packets: list[bytes] = []
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.bind((interface, 0))
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            packet, (_, _, kind, *_) = self._socket.recvfrom(65_536)
            if kind == PACKET_OUTGOING:
                self.packets.append(packet)


def main(home: str, weights: str, question: str) -> int:
    raise_loopback()
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")  # the kernel's own neighbour discovery
    for words in WORLD:
        subprocess.run(["ip", *words.split()], check=True)
    capture = Capture("world")
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"control", OUTSIDE)
    control = threading.Event()
    control.wait(0.5)
    assert capture.packets, "the capture does not see a packet of our own"
    control.wait(3.0)  # the kernel asks three times, a second apart, who has the address
    capture.packets.clear()

    environ = {**os.environ, "ASHORE_HOME": home}
    pull = [sys.executable, "-m", "ashore.cli.main", "model", "pull", weights, "--name", "mine"]
    subprocess.run(pull, env=environ, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = start_served(Path(home), ["mine"], store=None, port=8080, grpc_port=8081)
    try:
        with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0) as api:
            answer = api.chat.completions.create(
                model="mine", messages=[{"role": "user", "content": question}], max_tokens=32, temperature=0
            )
            print("answer:", answer.choices[0].message.content)
    except Exception:
        print(server.everything_said())
        raise
    finally:
        server.stop()
    for packet in capture.packets:
        print("left the machine:", packet.hex())
    return 1 if capture.packets else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
