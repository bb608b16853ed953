"""Scores encrypted rows: BFV with a row in the coefficients of one polynomial, in a child process that may die.

The row x is sum x[i] X^i, and the weights of output j lie reversed from j*d on: one multiplication puts output j at
coefficient (j + 1) * d - 1. Fresh random numbers hide all other coefficients. Only the child reads ciphertexts of
strangers, with SEAL's own checks, within limits of size, time and memory.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
import subprocess
from typing import TYPE_CHECKING, Any, Final

from ashore.core.errors import InvalidRequest, UnsupportedByEngine
from ashore.data.engines.grammarchild import receive, send
from ashore.kit.extras import require
from ashore.kit.processes import child_environment, python_command

if TYPE_CHECKING:
    from ashore.data.engines.tabular.form import Head

DEGREE: Final = 4096
MOST_BYTES: Final = 128 << 10
"""Limit of a ciphertext. A fresh one has 45 KiB."""
MOST_START_S, MOST_S = 60.0, 5.0
MEMORY_BYTES: Final = 512 << 20


class SealedRows:
    """One head's answers to encrypted rows."""

    def __init__(self, head: Head) -> None:
        """Create it; starts no process yet."""
        outputs, size = head.weights.shape
        largest = int((abs(head.weights).sum(axis=1) * 127 + abs(head.bias)).max())
        bits = max(20, largest.bit_length() + 1)
        sizes = {"degree": DEGREE, "plain_bits": bits, "size": size, "outputs": outputs}
        fits = outputs * size <= DEGREE and bits <= 26
        self.parameters = {"scheme": "bfv", "library": "SEAL", "security_bits": 128, **sizes} if fits else None
        """What a client encrypts with; None: this head takes no encrypted rows."""
        self._setup = {**sizes, "weights": head.weights.tolist(), "bias": head.bias.tolist()}
        self._line: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def score(self, ciphertext: bytes) -> list[float]:
        """Return the encrypted scores as numbers of 32 bits, after how many bytes they are.

        Raises:
            InvalidRequest: SEAL refuses the ciphertext, or it took too long.
            UnsupportedByEngine: this head is too large.
            MissingExtra: TenSEAL is not installed.
        """
        if self.parameters is None:
            raise UnsupportedByEngine("this head has more weights than a ciphertext holds", hint="score rows in clear")
        require(("tenseal",), "examples", "an encrypted score")
        if len(ciphertext) > MOST_BYTES:
            raise _refused(f"it has {len(ciphertext):,} bytes; expected at most {MOST_BYTES:,}")
        try:
            line = self._line or self._start()
            send(line, ciphertext)
            told = receive(line)
        except OSError as fault:  # a time-out too
            self.close()
            raise _refused(f"the process that reads ciphertexts ended: {fault}") from fault
        if not told:
            self.close()
            raise _refused("it ended the process that reads ciphertexts")
        if told[:1] == b"F":
            raise _refused(told[1:].decode(errors="replace")[:200])
        size = len(told) - 1
        return [float(size), *map(float, struct.unpack(f"<{-(-size // 4)}I", told[1:] + bytes(-size % 4)))]

    def close(self) -> None:
        """End the child. May be called twice."""
        if self._line is not None and self._child is not None:
            self._line.close()
            self._child.kill()
            self._child.wait()
        self._line = self._child = None

    def _start(self) -> socket.socket:
        self._line, theirs = socket.socketpair()
        with theirs:
            command = python_command("ashore.data.engines.tabular.sealed")
            self._child = subprocess.Popen(command, stdin=theirs.fileno(), env=child_environment())
        self._line.settimeout(MOST_START_S)
        send(self._line, json.dumps(self._setup).encode())
        receive(self._line)
        self._line.settimeout(MOST_S)
        return self._line


def _refused(what: str) -> InvalidRequest:
    hint = "encrypt one row with the parameters of GET /v1/heads/NAME, and send what SEAL saves"
    return InvalidRequest(f"the ciphertext cannot be scored: {what}", hint=hint, param="body")


def polynomial(values: list[int], plain: int) -> str:
    """Return coefficients as SEAL reads a plaintext."""
    return " + ".join(f"{one % plain:X}x^{at}" for at, one in reversed([*enumerate(values)]) if one % plain) or "0"


def context_of(parameters: dict[str, Any]) -> Any:
    """Return the context of SEAL for a card's `encrypted`."""
    import tenseal.sealapi as seal

    chosen = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
    chosen.set_poly_modulus_degree(parameters["degree"])
    chosen.set_coeff_modulus(seal.CoeffModulus.BFVDefault(parameters["degree"], seal.SEC_LEVEL_TYPE.TC128))
    chosen.set_plain_modulus(1 << parameters["plain_bits"])
    return seal.SEALContext(chosen, True, seal.SEC_LEVEL_TYPE.TC128)


def main() -> None:
    """Score the ciphertexts that arrive on standard input, a socket, until the sender is gone."""
    import tenseal.sealapi as seal

    line = socket.socket(fileno=0)
    setup = json.loads(receive(line) or b"{}")
    size, plain, context = setup["size"], 1 << setup["plain_bits"], context_of(setup)
    evaluator = seal.Evaluator(context)
    factor = seal.Plaintext(polynomial([one for row in setup["weights"] for one in reversed(row)], plain))
    given, taken = os.memfd_create("given"), os.memfd_create("taken")
    with open("/proc/self/statm", encoding="ascii") as file:
        most = int(file.read().split()[0]) * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    send(line, b"A")
    while (message := receive(line)) is not None:
        row, product = seal.Ciphertext(context), seal.Ciphertext(context)
        try:
            os.ftruncate(given, 0)
            os.pwrite(given, message, 0)
            row.load(context, f"/proc/self/fd/{given}")  # checks the data against the context
            evaluator.multiply_plain(row, factor, product)
            mask = list(struct.unpack(f"<{DEGREE}I", os.urandom(4 * DEGREE)))
            mask[size - 1 : len(setup["bias"]) * size : size] = setup["bias"]
            evaluator.add_plain_inplace(product, seal.Plaintext(polynomial(mask, plain)))
            product.save(f"/proc/self/fd/{taken}")
            told = b"A" + os.pread(taken, 1 << 20, 0)
        except (ValueError, RuntimeError, MemoryError) as fault:
            told = b"F" + str(fault).encode(errors="replace")
        send(line, told)


if __name__ == "__main__":
    main()
