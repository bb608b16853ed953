"""The reference of ashore.toml, the example and what `ashore config show` says follow from the declarations."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from deploy.make_config_page import reference

from ashore.kit.call import docs_under, field_docs
from ashore.kit.section import Key, keys_of
from ashore.kit.settings import READERS, Settings
from ashore.machine.config import Spec, parse_spec
from ashore.machine.config.effective import effective
from ashore.machine.config.example import example

PAGE = Path(__file__).parents[2] / "docs/reference/ashore-toml.md"
SECTIONS = [key for key in keys_of(Spec) if key.name != "settings"]


def test_the_page_is_what_the_declarations_say() -> None:
    again = "python -m deploy.make_config_page > docs/reference/ashore-toml.md"
    assert PAGE.read_text(encoding="utf-8") == reference(), f"write it again: {again}"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda key: key.name)
def test_every_key_has_its_help(section: Key) -> None:
    waiting = [section.inner]
    while waiting:
        kind = waiting.pop()
        assert kind is not None and kind.__doc__
        for key in keys_of(kind):
            if key.inner is not None:
                waiting.append(key.inner)
            else:
                assert field_docs(kind).get(key.field), f"{kind.__name__}.{key.field} has no docstring"


def test_every_section_can_be_read_by_the_processes_that_get_it() -> None:
    """msgspec refuses bounds that exclude each other, `gt` beside `ge`, only when a process first reads a section."""
    for section in SECTIONS:
        assert section.inner is not None
        msgspec.json.Decoder(section.inner)


def test_every_setting_has_its_help() -> None:
    assert set(READERS) <= set(docs_under(Settings))


def test_the_example_changes_nothing_and_has_every_key() -> None:
    assert parse_spec(example()) == Spec()
    told = tomllib.loads(re.sub(r"(?m)^# (?=[a-z_]+ = |\[)", "", example()))
    assert set(told) == {key.name for key in keys_of(Spec)}
    assert set(told["cache"]) == {key.name for kind in [SECTIONS[4].inner] if kind for key in keys_of(kind)}
    assert told["edge"]["max_body_bytes"] == Spec().edge.max_body_bytes


@pytest.mark.parametrize("name", ["http", "admission", "edge", "redis", "jobs", "egress", "audit", "backup"])
def test_a_default_of_the_example_may_be_written_out(name: str) -> None:
    told = example()
    begin = told.index(f"# [{name}]")
    lines = told[begin : told.index("\n\n", begin)].splitlines()
    assert parse_spec("\n".join(line.removeprefix("# ") for line in lines)) == Spec()


def test_each_value_says_where_it_is_from() -> None:
    text = '[cache]\nttl_s = "1h"\n[settings]\noffline = true\napi_key = "hush"\nlog_level = "error"\n'
    text += '[state]\nurl = "postgresql://a:hush@h/x"\n[[model]]\nname = "smollm2"\n'
    environ = {"ASHORE_HOME": "/srv/a", "ASHORE_LOG_LEVEL": "debug"}
    held = effective(parse_spec(text), tomllib.loads(text), environ)
    found = {(one.table, one.key): (one.value, one.source) for one in held}
    assert found["[cache]", "ttl_s"] == ("3600.0", "file")
    assert found["[cache]", "mode"] == ('"exact"', "default")
    assert found["[[model]] 1", "name"] == ('"smollm2"', "file")
    assert found["[settings]", "offline"] == ("true", "file")
    assert found["[settings]", "log_level"] == ('"debug"', "environment")
    assert found["[settings]", "home"] == ('"/srv/a"', "environment")
    assert found["[state]", "url"][1] == "file"
    assert "hush" not in str(found)
