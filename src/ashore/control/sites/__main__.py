"""The process of a site: `python -m ashore.control.sites --run DIR`. SIGTERM ends it, SIGHUP has it read again."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from ashore.cli.bootstrap import build_store, build_workshop, make_ready, manifests_in_use
from ashore.control.releases import KeptVerdicts, ReleaseOffice
from ashore.control.sites.agent import Agent, Joined
from ashore.control.sites.identity import SiteKey, site_key
from ashore.control.sites.links import open_link
from ashore.control.sites.parts import SiteParts
from ashore.control.sites.ports import CentreLink
from ashore.control.sites.probe import HostProbe
from ashore.control.sites.reports import Reports, Sources
from ashore.control.sites.rows import SiteRows
from ashore.control.sites.section import SitesSection
from ashore.control.sites.switch import Switch
from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError
from ashore.data.audit import open_log
from ashore.data.authority import Acts
from ashore.data.path import Topology, read_topology
from ashore.kit.egress import parse_allow, server_of
from ashore.kit.extras import require
from ashore.kit.folders import make_folder
from ashore.kit.processes import ask
from ashore.kit.processes.entry import run_process
from ashore.kit.recordfile import read_record
from ashore.kit.sealing import secrets_by_link
from ashore.kit.settings import Home, read_settings
from ashore.kit.state import open_state

log = logging.getLogger("ashore.sites")

CHAIN = "site"
"""Its chain of the audit log."""
UNJOINED_S = 1.0
HINDERED_S = 5.0
"""Between two tries where this machine lets the site write nothing."""
END_S = 5.0


def section_of(topology: Topology) -> SitesSection:
    """Return `[sites]` as the supervisor says it."""
    return msgspec.convert(topology.told("sites"), SitesSection)


def link_to(joined: Joined, key: SiteKey, folder: Path, allow: Sequence[str]) -> CentreLink:
    """Open the link to the centre, as this site."""
    if not joined.centre.startswith("https://"):
        return open_link(joined.centre, allow=parse_allow(allow))
    authority = folder / "centre-ca.pem"
    trusted = authority.read_text() if authority.is_file() else None
    context = key.context((folder / "site.pem").read_bytes(), trusted)
    return open_link(f"{joined.centre}/site/v1", allow=(*parse_allow(allow), server_of(joined.centre)), verify=context)


def work(topology_path: Path, stop: threading.Event, reread: threading.Event) -> None:
    """Be the site until `stop`."""
    topology = read_topology(topology_path)
    home, clock, settings = Home(root=Path(topology.home)), SystemClock(), read_settings()
    make_folder(home.sites, mode=0o700)
    require(("tuf", "zstandard"), "site", "a site of a centre")
    state = topology.state
    database = open_state(
        state.url, default=Path(state.path), snapshots=Path(state.snapshots), clock=clock, say=log.info,
        secrets=secrets_by_link(Path(state.secrets_key)), create=False,
    )  # fmt: skip
    recorder = open_log(topology.audit, CHAIN)
    store = build_store(home, settings, recorder)
    said = [topology]
    workshop = build_workshop(lambda: store, privacy=lambda: said[0].privacy, kept=lambda: said[0].cache)
    office = ReleaseOffice(
        Acts(database, recorder, clock), workshop, KeptVerdicts(lambda: store), policy=lambda: said[0].release
    )
    probe = HostProbe(topology_path)
    rows = SiteRows(database, recorder, clock)
    parts = SiteParts(home.sites, recorder, rows, partial(ask, home.control_socket))
    agent: Agent | None = None
    hindered = ""
    try:
        while not stop.is_set():
            joined = read_record(
                home.sites / "joined.json", Joined, if_damaged="restore it from the backup of this home"
            )
            if joined is None:
                agent = None
                stop.wait(UNJOINED_S)
                continue
            if agent is None or agent.joined != joined:
                key = site_key(database)
                switch = Switch(
                    office, store, home.sites / "switch.json", clock=clock, probe=probe,
                    ready=lambda name: make_ready(store, name).reference, in_use=partial(manifests_in_use, settings),
                    judge_s=section_of(said[0]).judge_s, parts=parts,
                )  # fmt: skip
                agent = Agent(
                    folder=home.sites, joined=joined,
                    link=partial(link_to, joined, key, home.sites, topology.egress.allow), switch=switch,
                    reports=Reports(home.sites / "reports.json", joined.site, key),
                    sources=Sources(database=database, audit=home.audit), office=office, store=store,
                    section=lambda: section_of(said[0]), clock=clock, answers=probe.answers, stopping=stop.is_set,
                )  # fmt: skip
                log.info("this is the site %s of %s", joined.site, joined.centre or "a centre without a link")
            if reread.is_set():
                reread.clear()
                said[0] = read_topology(topology_path)
            parts.drop(section_of(said[0]).takes)
            try:
                pause_s, hindered = agent.turn(), ""
            except AshoreError as fault:  # such as a full disk: what is served is served on
                if fault.message != hindered:
                    log.error("%s", fault.in_one_line)
                pause_s, hindered = HINDERED_S, fault.message
            deadline_s = clock.monotonic_s() + pause_s
            while clock.monotonic_s() < deadline_s and not stop.wait(0.2):
                if (home.sites / "asked.json").exists() or reread.is_set():
                    break
    finally:
        with contextlib.suppress(AshoreError):
            recorder.settle(END_S)
        recorder.close(END_S)
        database.close()


def main(words: Sequence[str] | None = None) -> int:
    """Run the process. Returns the exit code; our errors go to stderr, one line each."""
    parser = argparse.ArgumentParser(prog="ashore.control.sites", description="Take from a centre what it wants here.")
    parser.add_argument("--run", type=Path, required=True, help="directory with topology.json")
    return run_process(parser, words, _run)


def _run(given: argparse.Namespace) -> int:
    for talkative in ("httpx", "tuf", "gguf"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    stop, reread = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, lambda *_: reread.set())
    work(given.run / "topology.json", stop, reread)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
