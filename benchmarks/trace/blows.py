"""Killing processes under load, and measuring how long each is missed."""

from __future__ import annotations

import json
import os
import random
import signal
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from benchmarks.trace.model import Blow, Sample, Trace
from benchmarks.trace.platform import Platform, resident_mib

GIVE_UP_S = 60.0
LOOK_S = 0.05


def strike(platform: Platform, role: str, now_s: Callable[[], float], model: str) -> Blow:
    """Kill one process with SIGKILL, and return how long it took until another did its work.

    A job that processes died under twice is given up by design, so no blow falls while one runs that was hit before.
    """
    _await_no_suspect(platform)
    victim = _find(platform, role)
    at_s, began, since_s = now_s(), time.monotonic(), time.time()
    os.kill(victim, signal.SIGKILL)
    back_s = -1.0
    while time.monotonic() - began < GIVE_UP_S:
        if (
            platform.roles().get(role, victim) != victim
            and platform.works(role)
            and _does(platform, role, model, since_s)
        ):
            back_s = time.monotonic() - began
            break
        time.sleep(LOOK_S)
    return Blow(role=role, what="SIGKILL", at_s=round(at_s, 2), back_s=round(back_s, 2))


def freeze(platform: Platform, role: str, seconds: float, now_s: Callable[[], float]) -> Blow:
    """Stop one process for a while, let it go on, and return how long it took until it answered."""
    victim = _find(platform, role)
    at_s = now_s()
    os.kill(victim, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(victim, signal.SIGCONT)
    began, back_s = time.monotonic(), -1.0
    while time.monotonic() - began < GIVE_UP_S:
        if platform.works(role):
            back_s = time.monotonic() - began
            break
        time.sleep(LOOK_S)
    return Blow(role=role, what=f"SIGSTOP {seconds:g} s", at_s=round(at_s, 2), back_s=round(back_s, 2))


def strike_supervisor(platform: Platform, trace: Trace, now_s: Callable[[], float]) -> None:
    """Kill the supervisor, see that nothing is left of it, and start again."""
    at_s, began = now_s(), time.monotonic()
    platform.kill()
    left = platform.processes()
    while left and time.monotonic() - began < 10:
        time.sleep(0.02)
        left = platform.processes()
    trace.orphans_gone_s = round(time.monotonic() - began, 2)
    trace.orphans = [f"{pid} {command[:100]}" for pid, command in left.items()]
    trace.restarted_s = round(platform.start(), 2)
    back_s = round(time.monotonic() - began, 2)
    trace.blows.append(Blow(role="supervisor", what="SIGKILL", at_s=round(at_s, 2), back_s=back_s))


def weigh(platform: Platform, trace: Trace, now_s: Callable[[], float]) -> None:
    """Note the memory of every process."""
    at_s = now_s()
    for role, pid in platform.roles().items():
        mib = resident_mib(pid)
        if mib:
            trace.memory.append(Sample(role=role, pid=pid, at_s=round(at_s, 1), resident_mib=round(mib, 1)))


def shuffled(platform: Platform, draw: random.Random) -> list[str]:
    """Return every role that has a process now, in a random order."""
    order = sorted(platform.roles())
    draw.shuffle(order)
    return order


def _find(platform: Platform, role: str) -> int:
    until = time.monotonic() + GIVE_UP_S
    while role not in (found := platform.roles()):
        if time.monotonic() > until:
            raise RuntimeError(f"there is no {role}; there are {sorted(found)}\n{platform.said()}")
        time.sleep(LOOK_S)
    return found[role]


def _await_no_suspect(platform: Platform) -> None:
    until = time.monotonic() + GIVE_UP_S
    while platform.runs_a_suspect():
        if time.monotonic() > until:
            raise RuntimeError(f"a job that was hit once runs for {GIVE_UP_S:g} s\n{platform.said()}")
        time.sleep(LOOK_S)


def _does(platform: Platform, role: str, model: str, since_s: float) -> bool:
    """Return whether a role does what only it can do: the first model makes a fresh answer, a job worker takes jobs."""
    if role == "engine host 1":
        body = {"model": model, "messages": [{"role": "user", "content": "Are you there?"}], "max_tokens": 4}
        return _post(platform, "/v1/chat/completions", body)[0] == 200
    if role == "jobs":
        return platform.jobs_taken(since_s)
    return True


def _post(platform: Platform, path: str, body: object) -> tuple[int, dict[str, object]]:
    headers = {
        "authorization": f"Bearer {platform.key}",
        "content-type": "application/json",
        "cache-control": "no-store",
        "x-ashore-deadline-ms": "20000",
    }
    request = urllib.request.Request(platform.url + path, data=json.dumps(body).encode(), headers=headers)
    context = ssl.create_default_context(cafile=str(platform.authority))
    try:
        with urllib.request.urlopen(request, timeout=25, context=context) as answer:
            return answer.status, json.load(answer)
    except (urllib.error.URLError, OSError):
        return 0, {}
