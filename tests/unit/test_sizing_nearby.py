"""What was measured near a case moves its plan; what is of another kind, or far, does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ashore.lab.sizing import chips, networks, shipped
from ashore.lab.sizing.calibration import estimate
from ashore.lab.sizing.case import Case, precision_of
from ashore.lab.sizing.nearby import Measurements, measurements_of, tell

SLOWER = np.log(1.5)


def case(model: str = "llama-3-8b", device: str = "H100", **changed: object) -> Case:
    chip, network = chips()[device], networks()[model]
    whole = Case(
        chip=chip,
        host=None,
        network=network,
        precision=precision_of("bf16", model=model, chip=chip, network=network, engine="vllm"),
        engine="vllm",
        devices=1,
        tp=1,
        isl=1024,
        osl=256,
        load_kind="closed",
        load=16.0,
    )
    return replace(whole, **changed)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def measurements() -> Measurements:
    """One case took half as long again as was planned; its throughput was not measured."""
    return measurements_of(tell([case()], ["example.org"], np.array([[SLOWER, SLOWER, np.nan]])))


def test_a_measurement_in_the_same_place_moves_a_plan_nearly_to_it(measurements: Measurements) -> None:
    near = measurements.near([case()])
    assert near.weight[0] == pytest.approx(1.0)
    assert near.moved[0, 0] == pytest.approx(SLOWER, rel=0.01)
    assert near.moved[0, 2] == 0.0, "nothing is known of its throughput"


@pytest.mark.parametrize(
    "other",
    [
        case(load=20.0),
        case(isl=1300),
        case(year=2026.1),
        case(model="qwen3-8b"),
        case(device="H200"),
    ],
)
def test_what_is_less_like_a_measurement_is_moved_less(measurements: Measurements, other: Case) -> None:
    same, less = measurements.near([case(), other]).moved[:, 1]
    assert 0 < less < same


@pytest.mark.parametrize(
    "other",
    [
        case(engine="sglang"),
        case(load_kind="burst"),
        case(statistic="p99"),
        case(speculative=True),
        case(load=2048.0),
    ],
)
def test_what_is_of_another_kind_or_far_away_is_not_moved(measurements: Measurements, other: Case) -> None:
    assert np.abs(measurements.near([other]).moved).max() < 0.01 * SLOWER


def test_a_plan_says_measured_only_beside_a_measurement(measurements: Measurements) -> None:
    using = replace(shipped(), measured=measurements)
    asked = [case(), case(load=512.0), case(model="qwen3-8b"), case(device="T4")]
    found = estimate(asked, using)
    assert found.trust == ("measured", "fitted", "new model", "new device")
    plain = estimate(asked, replace(using, measured=measurements_of({"pairs": [], "setups": []})))
    assert found.value[0, 1] > 1.3 * plain.value[0, 1]
    assert found.value[0, 2] < plain.value[0, 2] / 1.2, "under a closed load the throughput follows"


def test_evidence_begins_with_the_pair_itself_and_names_its_sources() -> None:
    known, *others = shipped().evidence(networks()["llama-3-70b"], chips()["H200"])
    published, miss = known
    assert (published.model, published.device) == ("llama-3-70b", "H200")
    assert published.num_points == sum(published.engines.values()) > 10 and published.sources
    assert miss is not None and miss.token_percent is not None
    assert all(one.model == "llama-3-70b" or one.device == "H200" for one, _ in others)
    unknown, _ = shipped().evidence(networks()["llama-3-70b"], chips()["L40S"])[0]
    assert unknown.num_points > 0, "what is most like it is cited where it was not measured itself"


def test_an_interval_is_as_wide_as_a_device_was_missed_by_when_it_was_left_out() -> None:
    """Of what is near measurements of its own, those decide."""
    using = shipped()
    worst = max(using.misses["hardware"], key=lambda name: using.misses["hardware"][name].first_percent or 0.0)
    missed = 1 + (using.misses["hardware"][worst].first_percent or 0.0) / 100
    said = estimate([case(device=worst), case()])
    assert missed > 5 and said.trust[0] != "measured"
    assert said.high[0, 0] / said.value[0, 0] >= missed * 0.999
    assert said.value[0, 0] / said.low[0, 0] >= missed * 0.999
    assert (said.high[1] / said.value[1] < 5).all(), "the others are as narrow as they were"
