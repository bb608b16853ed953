"""Child program that compiles and follows grammars, so that a crash ends one grammar alone.

Run as `python -I -S grammarchild.py`, its standard input a unix socket. It loads the library, and a tokenizer if given,
and forks for each grammar. A fork has a memory limit, and a processor time limit enforced by a signal even inside the
library. The caller talks to the fork over a socket; its last message reports how the fork ended. Needs the standard
library and llguidance alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from typing import Any, Final

COMPILE_S: Final = 1.0
"""Processor time of one compilation. A schema of 2,000 properties takes 0.2 s."""
FOLLOW_S: Final = 0.25
"""Processor time for following a grammar in addition to `FOLLOW_TOKEN_S` for each token."""
FOLLOW_TOKEN_S: Final = 0.005
"""Usual ones take 0.0001."""
FOLLOWS_NICE, CHECKS_NICE = 5, 10
"""Tokens of those without a grammar come first."""
MEMORY_BYTES: Final = 512 << 20
"""Memory of a grammar in addition to the tokenizer."""

_LIMITS: Final = {
    "max_items_in_row": 2_000,
    "step_max_items": 20_000,
    "max_lexer_states": 50_000,
    "max_grammar_size": 200_000,
}
_LENGTH: Final = struct.Struct("<I")

FAULT, MASK, COMPLETE, ACCEPTED, ENDED = b"F", b"M", b"C", b"A", b"E"
"""How an answer begins: what is wrong; the tokens that may follow, as bits; nothing may follow; whether what was said
belongs to the grammar; the fork ended, by this signal."""
FOLLOW, BELONGS = b"m", b"b"
"""First bytes of a request, before token ids."""


def send(line: socket.socket, message: bytes) -> None:
    """Send one message."""
    line.sendall(_LENGTH.pack(len(message)) + message)


def receive(line: socket.socket) -> bytes | None:
    """Return the next message, None at the end."""
    head = _exactly(line, _LENGTH.size)
    return None if head is None else _exactly(line, _LENGTH.unpack(head)[0])


def source_of(kind: str, text: str, style: dict[str, Any]) -> str:
    """Return a grammar in the library's form; GBNF is translated."""
    import llguidance

    matcher = llguidance.LLMatcher
    match kind:
        case "json_schema":
            return str(matcher.grammar_from_json_schema(text, overrides=style))
        case "regex":
            return str(matcher.grammar_from_regex(text))
        case _:
            return str(matcher.grammar_from_lark(_lark_of(text)))


def main() -> None:
    """Fork for each socket that arrives, until the sender is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C of a terminal; the parent ends this process
    control = socket.socket(fileno=0)
    asked = json.loads(receive(control) or b"{}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(FOLLOWS_NICE if asked["tokenizer"] else CHECKS_NICE)
    sys.path.extend(asked["path"])
    tokenizer = _loaded(asked["tokenizer"])
    lines: dict[int, socket.socket] = {}
    signal.signal(signal.SIGCHLD, lambda *_: _reap(lines))
    while True:
        sign, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not sign:
            return
        line = socket.socket(fileno=descriptors[0])
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        with contextlib.suppress(OSError):  # no process can be made: the caller sees the end of the line
            if (pid := os.fork()) == 0:
                for one in (control, *lines.values()):
                    one.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _work(line, tokenizer)
            lines[pid] = line
        del line
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _loaded(tokenizer: dict[str, Any] | None) -> Any:
    """Load the library, and a tokenizer; all forks share the result."""
    import llguidance

    if tokenizer is None:
        return llguidance.LLMatcher.validate_grammar('start: "a"') or None
    made = llguidance.LLTokenizer(**tokenizer)
    llguidance.LLMatcher(made, 'start: "a"', log_level=0).compute_bitmask()
    return made


def _reap(lines: dict[int, socket.socket]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        line = lines.pop(pid)
        with contextlib.suppress(OSError):  # the caller may be gone
            if os.WIFSIGNALED(status):
                send(line, ENDED + str(os.WTERMSIG(status)).encode())
        line.close()


def _work(line: socket.socket, tokenizer: Any) -> None:
    """Do the work of a fork. Does not return."""
    code = 1
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            _serve(line, tokenizer)
        code = 0
    except MemoryError:
        os.abort()
    finally:
        os._exit(code)


def _serve(line: socket.socket, tokenizer: Any) -> None:
    import llguidance

    _limit_memory()
    message = receive(line)
    if message is None:
        return
    asked = json.loads(message)
    limits = llguidance.LLParserLimits(**_LIMITS)
    _may_take(COMPILE_S)
    warnings: list[str] = []
    try:
        source = source_of(**asked)
    except ValueError as error:
        send(line, FAULT + str(error).encode(errors="replace"))
        return
    if tokenizer is None:
        broken, warnings = llguidance.LLMatcher.validate_grammar_with_warnings(source, None, limits=limits)
        fault = warnings[0] if broken else ""
    else:
        matcher = llguidance.LLMatcher(tokenizer, source, log_level=0, limits=limits)
        fault = matcher.get_error()
    _may_take(0)
    send(line, FAULT + fault.encode() if fault else MASK + json.dumps(warnings).encode())
    if not fault and tokenizer is not None:
        _follow(line, matcher)


def _follow(line: socket.socket, matcher: Any) -> None:
    left_s = FOLLOW_S
    while (message := receive(line)) is not None:
        began_s = time.process_time()
        ids = list(struct.unpack(f"<{len(message) // 4}I", message[1:]))
        left_s += FOLLOW_TOKEN_S * len(ids)
        _may_take(max(left_s, 0.001))
        if message[:1] == BELONGS:
            copy = matcher.deep_copy()
            answer = ACCEPTED + bytes([copy.try_consume_tokens(ids) == len(ids) and copy.is_accepting()])
        else:
            matcher.consume_tokens(ids)
            stopped = bool(ids) and matcher.is_stopped()
            answer = COMPLETE if stopped else MASK + matcher.compute_bitmask()
        if matcher.is_error():
            answer = FAULT + matcher.get_error().encode()
        _may_take(0)
        left_s -= time.process_time() - began_s
        send(line, answer)


def _may_take(seconds: float) -> None:
    """Set the processor time limit of this process from now on; 0: none."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit_memory() -> None:
    with contextlib.suppress(FileNotFoundError), open("/proc/self/statm", encoding="ascii") as file:
        most = int(file.read().split()[0]) * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _lark_of(text: str) -> str:
    if "::=" not in text:
        return text
    from llguidance.gbnf_to_lark import gbnf_to_lark, is_lark_syntax

    try:
        return text if is_lark_syntax(text) else str(gbnf_to_lark(text))
    except RecursionError:
        raise ValueError("the GBNF grammar cannot be read: it is nested too deep") from None
    except Exception as fault:
        raise ValueError(f"the GBNF grammar cannot be read: {fault}") from fault


def _exactly(line: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = line.recv(min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


if __name__ == "__main__":
    main()
