"""Makers of accelerators: rows that say everything, cards found on a bus, and what a container gets of each."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from deploy_recipes import R1, VLLM

from ashore.core.errors import InvalidSpec
from ashore.kit.accelerators import count_cards, makers
from ashore.machine.deployment.forms import describe_deployment, parse_places, render_form

CONFIG = R1.replace("replicas = 2\n", "")
PLACES = (
    VLLM + 'maker = "{maker}"\n[[volume]]\npath = "/models"\nhost = "/srv/models"\nclaim = "models"\n'
    '[[model]]\nalias = "r1"\nweights = "/models/r1"\ngpus = 2\n'
)


def bus(root: Path, *cards: tuple[str, str]) -> Path:
    """Put cards on the PCI bus of a file system, each by vendor and class."""
    for number, (vendor, kind) in enumerate(cards):
        device = root / f"sys/bus/pci/devices/0000:{number:02x}:00.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    return root


def test_every_row_says_where_it_is_from_and_who_tried_it() -> None:
    assert len(makers()) == 10
    for name, maker in makers().items():
        assert maker.source and maker.tried and maker.image and maker.pci.classes, name
        assert any("{n" in node for node in maker.nodes), name
        assert all(path.startswith("/") for path in (*maker.nodes, *maker.mounts, *maker.optional)), name


def test_cards_are_found_by_vendor_and_class_before_there_is_a_driver(tmp_path: Path) -> None:
    seen = bus(
        tmp_path,
        ("0x19e5", "0x120000"),
        ("0x19e5", "0x120000"),
        ("0x19e5", "0x020000"),  # a network card of Huawei's
        ("0x1d94", "0x060000"),  # a host bridge of Hygon's
        ("0x1002", "0x030000"),
        ("0x1a03", "0x030000"),  # the picture of a BMC
    )
    assert count_cards(seen) == {"ascend": 2, "amd": 1}


def test_a_file_that_drivers_of_two_makers_have_names_neither(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for name in ("kfd", "mkfd", "nvidia0", "nvidiactl", "davinci_manager"):
        (tmp_path / "dev" / name).touch()
    assert count_cards(tmp_path) == {"nvidia": 1}
    assert count_cards(bus(tmp_path, ("0x1d94", "0x120000"))) == {"nvidia": 1, "hygon": 1}
    assert count_cards(bus(tmp_path / "odd", ("", ""), ("0xzz", "0x"))) == {}


@pytest.mark.parametrize("name", makers())
def test_a_container_gets_what_its_maker_needs_in_every_form(name: str) -> None:
    maker, places = makers()[name], parse_places(PLACES.replace("{maker}", name))
    deployed = describe_deployment(CONFIG, places)
    engine = yaml.safe_load(render_form("compose", deployed)["compose.yaml"])["services"]["ashore-r1"]
    unit = render_form("quadlet", deployed)["ashore-r1.container"]
    objects = "".join(render_form("k8s", deployed).values())
    said = f"Accelerators of {maker.title}: tried by {maker.tried}."
    assert said in unit and said in objects and said in render_form("compose", deployed)["compose.yaml"]
    pods = [one for one in yaml.safe_load_all(objects) if one and one["metadata"]["name"] == "ashore-r1"]
    asked = [one["spec"]["template"]["spec"] for one in pods if one["kind"] == "Deployment"]
    assert [one["containers"][0]["resources"]["limits"][maker.resource] for one in asked] == ["2"]
    assert any(toleration["key"] == maker.resource for toleration in asked[0]["tolerations"])
    if name == "nvidia":
        assert engine["deploy"]["resources"]["reservations"]["devices"][0]["count"] == 2
        assert "devices" not in engine and "AddDevice=nvidia.com/gpu=1\n" in unit
        return
    assert engine["devices"] == [f"{path}:{path}" for path in maker.files(2)]
    assert {f"{path}:{path}:ro" for path in maker.mounts} <= set(engine["volumes"])
    assert engine.get("group_add", []) == list(maker.groups)
    assert all(engine["environment"][key] == "0,1" for key in maker.visible)
    for path in maker.files(2):
        assert f"AddDevice={path}\n" in unit
    assert "privileged" not in str(engine) and engine["cap_drop"] == ["ALL"]
    assert "nvidia" not in f"{engine}{unit}{objects}".lower()


def test_an_unknown_maker_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="ascent") as caught:
        parse_places('[image]\nmaker = "ascent"\n')
    assert "'ascend'" in caught.value.hint
