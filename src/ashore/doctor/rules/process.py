"""Processes of the home and their limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.core import counted
from ashore.doctor.model import Change, Finding, evidence
from ashore.doctor.readings import Process, Readings
from ashore.doctor.rule import rule

FILES_SHARE: Final = 0.7
FEW_FILES: Final = 4096
PROCESSES_SHARE: Final = 0.8
MANY_RESTARTS: Final = 3
YOUNG_S: Final = 20.0
"""A host that began so lately may still load."""


@rule("D501", "process", "Is a process close to its limit of open files?", needs=("processes",))
def files_run_out(seen: Readings) -> Iterator[Finding]:
    for one in seen.processes:
        if one.files_soft and one.files > FILES_SHARE * one.files_soft:
            wider = one.files_hard > one.files_soft
            yield Finding(
                severity="critical" if one.files > 0.95 * one.files_soft else "warning",
                what=f"{one.name} has {one.files} of {one.files_soft} files open",
                cause="each connection is one; the next one is refused at the limit",
                evidence=(
                    evidence("open files", one.files, f"{FILES_SHARE:.0%} of {one.files_soft}"),
                    evidence("hard limit", one.files_hard),
                ),
                sure="certain",
                remedy="raise the limit" if wider else "raise LimitNOFILE= of the unit, and start the server again",
                commands=(f"prlimit --pid {one.pid} --nofile={one.files_hard}:{one.files_hard}",)
                if wider
                else ("systemctl edit ashore  # [Service] LimitNOFILE=65536",),
                change=Change(kind="files-limit", target=str(one.pid), value=str(one.files_hard)) if wider else None,
            )


@rule("D502", "process", "Can no more processes or threads be made soon?", needs=("groups",), down=True)
def processes_run_out(seen: Readings) -> Iterator[Finding]:
    for one in seen.groups:
        if one.processes_most and one.processes > PROCESSES_SHARE * one.processes_most:
            yield Finding(
                severity="critical",
                what=f"the control group {one.path} has {one.processes} of {one.processes_most} processes and threads",
                cause="engines make a thread for each processor; at the limit none can start",
                evidence=(evidence("processes", one.processes, f"{PROCESSES_SHARE:.0%} of {one.processes_most}"),),
                sure="certain",
                remedy="raise TasksMax= of the unit, or pids of the container",
                commands=("systemctl edit ashore  # [Service] TasksMax=",),
            )


@rule(
    "D503",
    "process",
    "Does a process of the server end again and again?",
    needs=("server.restarts",),
    explains=("D616",),
)
def crash_loop(seen: Readings) -> Iterator[Finding]:
    for name, times in seen.server.restarts.items():
        if times >= MANY_RESTARTS:
            how = seen.server.endings.get(name, "")
            yield Finding(
                severity="critical",
                what=f"{name} was started {counted(times, 'time')} again in the last ten minutes"
                + (f"; the last time it {how}" if how else ""),
                cause="a request kills it, or memory runs out; its log ends with the reason"
                if how.startswith("was killed")
                else "it fails soon after its start; its log ends with the reason",
                evidence=(evidence("restarts", times, MANY_RESTARTS),),
                sure="certain",
                remedy="read the end of its log; if a new release fails, roll back",
                commands=("ashore logs", "ashore release rollback ALIAS"),
            )


@rule("D506", "process", "Would the server not come back after a restart of the machine?", needs=("server.by_unit",))
def no_unit(seen: Readings) -> Iterator[Finding]:
    if not seen.server.by_unit:
        yield Finding(
            severity="advice",
            what="the server was started by hand",
            cause="no service manager starts it after a boot, or when the supervisor itself is killed",
            evidence=(evidence("started by", "a shell", "systemd or a container"),),
            sure="likely",
            remedy="run it as a service",
            commands=("ashore deploy render systemd --config ashore.toml",),
        )


@rule("D507", "process", "Does the server run older code than is installed?", needs=("processes",))
def old_code(seen: Readings) -> Iterator[Finding]:
    stale = [one.name for one in seen.processes if one.stale]
    if stale:
        yield Finding(
            severity="warning",
            what=f"{counted(len(stale), 'process', 'processes')} ({', '.join(stale[:4])}) run code that was replaced "
            "since",
            cause="ashore was upgraded and the server was not started again; a child that restarts mixes versions",
            evidence=(evidence("processes older than the package", len(stale), 0),),
            sure="certain",
            remedy="start the server again",
            commands=("ashore stop", "ashore up"),
        )


@rule(
    "D508",
    "process",
    "Does an engine host have work and do none?",
    needs=("hosts", "processes"),
    explains=("D509", "D616"),
    source="a host that hangs is replaced after `step_timeout_s`; this sees it sooner",
)
def stuck_host(seen: Readings) -> Iterator[Finding]:
    by_pid = {one.pid: one for one in seen.processes}
    for one in seen.hosts:
        process = by_pid.get(one.pid)
        if process is None or one.is_a_server or seen.span_s < 1:
            continue
        halted = process.state in ("T", "t") and not process.tracer
        idle = (
            one.running > 0
            and not one.steps
            and process.cpu_cores < 0.02
            and process.waits_share < 0.1
            and process.state != "R"
            and process.age_s > YOUNG_S
        )
        if halted or idle:
            yield Finding(
                severity="critical",
                what=f"{process.name} has {one.running} requests and makes no step"
                if idle
                else f"{process.name} is stopped",
                cause="a signal or a debugger stopped it" if halted else "its engine hangs",
                evidence=(
                    evidence("steps", one.steps, f"some in {seen.span_s:.0f} s"),
                    evidence("state", process.state, "R or S"),
                    evidence("processor time", f"{process.cpu_cores:.2f} processors"),
                ),
                sure="certain" if halted else "likely",
                remedy="let it continue"
                if halted
                else "end it: its requests go to another replica, and it starts again",
                commands=(
                    f"kill -CONT {one.pid}" if halted else f"kill -ABRT {one.pid}  # its log then shows where it hung",
                ),
                change=Change(kind="continue", target=str(one.pid)) if halted else None,
            )


@rule(
    "D509",
    "process",
    "Is a process of the server stopped?",
    needs=("processes",),
    explains=("D513", "D600", "D607", "D801", "D804", "D811"),
)
def halted(seen: Readings) -> Iterator[Finding]:
    for one in seen.processes:
        if one.tracer:
            yield Finding(
                severity="critical",
                what=f"{one.tracer} traces {one.name} (process {one.pid})",
                cause="a debugger or tracer stops it at each system call; its requests wait",
                evidence=(evidence("tracer", one.tracer, "none"), evidence("state", one.state, "R or S")),
                sure="certain",
                remedy="end the tracer; the process goes on by itself",
                commands=(f"kill {one.tracer.rpartition(' ')[2].rstrip(')')}",),
            )
        elif one.state in ("T", "t") and one.role != "host":
            yield Finding(
                severity="critical",
                what=f"{one.name} (process {one.pid}) is stopped",
                cause="a signal (SIGSTOP, Ctrl-Z) or a debugger stopped it; its requests wait",
                evidence=(evidence("state", one.state, "R or S"),),
                sure="certain",
                remedy="let it continue",
                commands=(f"kill -CONT {one.pid}",),
                change=Change(kind="continue", target=str(one.pid)),
            )


@rule("D512", "process", "Are there processes of this home that nobody looks after?", needs=("processes",), down=True)
def orphans(seen: Readings) -> Iterator[Finding]:
    left = [one for one in seen.processes if one.orphan]
    if left:
        pids = " ".join(str(one.pid) for one in left)
        yield Finding(
            severity="warning",
            what=f"{counted(len(left), 'process', 'processes')} of this home have no supervisor: {_names(left)}",
            cause="they were left when a supervisor was killed; they hold memory and sockets",
            evidence=(evidence("orphans", pids, "none"),),
            sure="certain",
            remedy="end them",
            commands=(f"kill {pids}",),
        )


@rule("D513", "process", "Does the supervisor not answer?", needs=("processes",), down=True)
def silent_supervisor(seen: Readings) -> Iterator[Finding]:
    supervisor = next((one for one in seen.processes if one.role == "supervisor"), None)
    if not seen.server.running and supervisor is not None and not supervisor.orphan:
        yield Finding(
            severity="critical",
            what=f"the supervisor (process {supervisor.pid}) is there and does not answer",
            cause="it is stopped or hangs; nothing that ends is started again",
            evidence=(
                evidence("control socket", "no answer", "an answer"),
                evidence("state", supervisor.state, "R or S"),
            ),
            sure="certain",
            remedy="let it continue if it is stopped; otherwise end it and start the server again",
            commands=(f"kill -CONT {supervisor.pid}", f"kill {supervisor.pid}  # then: ashore up"),
        )


@rule("D514", "process", "Is the limit of open files low for a server?", needs=("processes",))
def low_limit(seen: Readings) -> Iterator[Finding]:
    low = [one for one in seen.processes if one.role in ("api", "edge") and 0 < one.files_soft < FEW_FILES]
    for one in low[:1]:
        wider = one.files_hard >= FEW_FILES
        yield Finding(
            severity="advice",
            what=f"{one.name} may open {one.files_soft} files",
            cause="each connection and each stream is one",
            evidence=(evidence("limit", one.files_soft, FEW_FILES), evidence("hard limit", one.files_hard)),
            sure="certain",
            remedy="raise the limit before many clients come",
            commands=(f"prlimit --pid {one.pid} --nofile={one.files_hard}:{one.files_hard}",),
            change=Change(kind="files-limit", target=str(one.pid), value=str(one.files_hard)) if wider else None,
        )


@rule("D515", "process", "Does a process report failures that nobody expected?", needs=("log.tracebacks",))
def tracebacks(seen: Readings) -> Iterator[Finding]:
    for name, number in seen.log.tracebacks.items():
        yield Finding(
            severity="advice",
            what=f"{name} has {counted(number, 'traceback')} since the look before",
            cause="something failed in a way that the code does not expect",
            evidence=(evidence("tracebacks", number, 0),),
            sure="possible",
            remedy="read them; report them with a support bundle",
            commands=(f"grep -A30 Traceback logs/{name} | tail -40", "ashore doctor bundle"),
        )


def _names(processes: list[Process]) -> str:
    return ", ".join(f"{one.name} ({one.pid})" for one in processes[:5])
