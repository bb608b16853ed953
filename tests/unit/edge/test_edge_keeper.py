"""The edge's files while it runs: Envoy may be started again at any moment, and reads what they name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ashore.core.clock import ManualClock
from ashore.kit.processes.supervisor import Supervisor
from ashore.machine.edge import EdgeKeeper, EdgePlan, EdgeSection, keeper

SPEC = EdgeSection(kind="envoy")
DAYS_S = 86_400.0


def test_a_key_is_there_as_long_as_the_file_that_envoy_reads_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    supervisor = Supervisor(clock=clock, say=str)
    edge = EdgeKeeper(
        run=tmp_path / "run",
        certificates=tmp_path / "edge",
        log=tmp_path / "log",
        supervisor=supervisor,
        clock=clock,
        say=str,
        num_workers=1,
        longest_answer_s=60,
        max_file_bytes=1,
    )
    secrets: list[Path] = []

    def named() -> Path:
        """Return the key that an Envoy would read that starts now."""
        told = yaml.safe_load(secrets[0].read_text())["resources"][0]
        return Path(told["tls_certificate"]["private_key"]["filename"])

    def full(plan: EdgePlan) -> tuple[Path, ...]:
        assert named().exists(), "Envoy starts before it is told of the new key"
        raise OSError("the disk is full")

    with supervisor:
        secrets += [path for path in edge.apply(SPEC) if path.name == "secrets.yaml"]
        first = named()
        clock.advance(70 * DAYS_S)
        with monkeypatch.context() as patch:
            patch.setattr(keeper, "write_files", full)
            with pytest.raises(OSError, match="disk is full"):
                edge.apply(SPEC)
        assert named() == first and first.exists()
        edge.apply(SPEC)
        assert named() != first and named().exists()
        assert list((tmp_path / "edge").glob("edge-*.key")) == [named()], "old keys do not pile up"
