"""Judges that the operator supplies: what they say, what they may cost, and what is refused."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from test_release_pairs import SHADOWED, Says
from test_release_serving import Bench, ask, run

from ashore.core.errors import InvalidSpec
from ashore.data.path.judges import Judges, score_of
from ashore.data.releases import EVERYTHING, AliasRoute, JudgeSpec, ReleasePolicy
from ashore.machine.config import read_spec

T = TypeVar("T")

JSON = JudgeSpec(name="json", schema='{"type": "object", "required": ["a"], "properties": {"a": {"pattern": "^x+$"}}}')
POLITE = JudgeSpec(name="polite", must_match="(?i)please")
SECRETS = JudgeSpec(name="secrets", must_not_match="password", alias="chat")


def values(
    judges: Judges, live: str, candidate: str, *, alias: str = "chat", prompt: str | None = "q"
) -> dict[str, float]:
    async def read(num_chars: int, work: Callable[[], T], /) -> T:
        assert num_chars == len(live) + len(candidate)
        return work()

    return asyncio.run(judges.values(alias, live, candidate, prompt=prompt, read=read))


def script(folder: Path, text: str) -> str:
    path = folder / "judge"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_checks_look_at_each_answer() -> None:
    judges = Judges((JSON, POLITE, SECRETS))
    assert values(judges, '{"a": "xx"}', ' {"a": "xx"}\n') == {"judge json": 0, "judge polite": 0, "judge secrets": 0}
    assert values(judges, '{"a": "xx"} ', "please")["judge json"] == 1, "no JSON, where the live answer was"
    assert values(judges, '{"a": "xx"}', '{"a": "y"}')["judge json"] == 1, "its expression is RE2's"
    assert values(judges, "no", '{"a": "x"}')["judge json"] == -1
    assert values(judges, "PLEASE", "the password")["judge polite"] == 1
    assert values(judges, "ok", "the password")["judge secrets"] == 1
    assert "judge secrets" not in values(judges, "ok", "ok", alias="other")
    assert values(judges, "a" * 70_000, "ok") == {}, "longer texts are not judged"
    assert not Judges() and judges


def test_a_command_reads_both_answers_and_scores(tmp_path: Path) -> None:
    program = script(
        tmp_path,
        "#!/usr/bin/env python3\nimport json, os, sys\nq = json.load(sys.stdin)\n"
        "assert set(q) == {'prompt', 'live', 'candidate'} and 'ASHORE_API_KEY' not in os.environ\n"
        "print(0.25 if q['candidate'] == '坏' else 0.5)\n",
    )
    judges = Judges((JudgeSpec(name="mine", command=(program,)),))
    assert values(judges, "好", "坏") == {"unanswered by mine": 0, "preference of mine": 0.75}
    assert values(judges, "好", "好")["preference of mine"] == 0.5
    assert values(judges, "好", "坏", prompt=None) == {}, "answers to different requests are not compared"


@pytest.mark.parametrize("said", ["exit 3", "echo 1.5", "echo good", "yes", "echo nan", "#!"])
def test_a_command_that_gives_no_score_says_nothing(tmp_path: Path, said: str) -> None:
    text = "#!/no/such/program\n" if said == "#!" else f"#!/bin/sh\n{said}\n"
    judges = Judges((JudgeSpec(name="mine", command=(script(tmp_path, text),), timeout_s=3.0),))
    assert values(judges, "x" * 60_000, "b") == {"unanswered by mine": 1}


def test_a_command_that_hangs_ends_with_all_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "alive"
    text = f"#!/bin/sh\n(sleep 1; touch {mark}) &\nsleep 60\n"
    judges = Judges((JudgeSpec(name="mine", command=(script(tmp_path, text),), timeout_s=0.3),))
    began = time.monotonic()
    assert values(judges, "a", "b") == {"unanswered by mine": 1}
    assert time.monotonic() - began < 5
    time.sleep(1.2)
    assert not mark.exists()


def test_what_a_score_is() -> None:
    assert score_of(b" 0.5\n") == ("", 0.5)
    assert score_of(b"")[1] is None and "number from 0 to 1" in score_of(b"-1")[0]


def test_judges_of_a_shadow_and_of_a_canary(tmp_path: Path) -> None:
    program = script(tmp_path, "#!/bin/sh\ncat > /dev/null\necho 0\n")
    policy = ReleasePolicy(judges=(POLITE, JudgeSpec(name="mine", command=(program,))))

    async def scenario(bench: Bench) -> None:
        bench.service.trials.take_policy(policy)
        bench.service.take_routes(SHADOWED)
        await bench.answer(ask("please"))
        means = await bench.observed("shadow")
        assert means["judge polite", EVERYTHING] == 1 and means["preference of mine", EVERYTHING] == 1
        both = AliasRoute(weights=(("chat-1", 500), ("chat-2", 500)), watched=("chat-2", "chat-1"))
        bench.service.take_routes({"chat": both})
        seen: dict[tuple[str, str], float] = {}
        for number in range(60):
            await bench.answer(ask(f"please {number}"))
            await asyncio.sleep(0.01)
            for tallies in bench.service.trials.take().values():
                seen |= {key: tally.mean for key, tally in tallies.items()}
            if ("judge polite", EVERYTHING) in seen:
                break
        assert seen["judge polite", EVERYTHING] == 1 and ("preference of mine", EVERYTHING) not in seen
        assert ("errors", "share 50 %") in seen

    run(scenario, Bench(second=Says(b"no")))


def test_the_part_of_ashore_toml(tmp_path: Path) -> None:
    (tmp_path / "answer.json").write_text('{"type": "object"}')
    script(tmp_path, "#!/bin/sh\n")
    file = tmp_path / "ashore.toml"
    file.write_text(
        '[[release.judge]]\nname = "json"\nschema = "answer.json"\n'
        '[[release.judge]]\nname = "mine"\nalias = "chat"\ncommand = ["./judge", "--strict"]\ntimeout_s = 2\n'
    )
    first, second = read_spec(file).release.judges
    assert first.schema == '{"type": "object"}'
    assert second.command == (str(tmp_path / "judge"), "--strict") and second.timeout_s == 2.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name = "a"', "no criterion"),
        ('name = "a"\nmust_match = "x"\nmust_not_match = "y"', "must_match and must_not_match"),
        ('name = "A b"\nmust_match = "x"', "no valid name"),
        ('name = "a"\nmust_match = "(?=x)"', "RE2"),
        ('name = "a"\nschema = "none.json"', "No such file"),
        ('name = "a"\nschema = "bad.json"', "not JSON"),
        ('name = "a"\nschema = "kind.json"', "not a JSON Schema"),
        ('name = "a"\nschema = "far.json"', "refers to"),
        ('name = "a"\nschema = "names.json"', "patternProperties"),
        ('name = "a"\nschema = "slow.json"', "RE2"),
        ('name = "a"\ncommand = ["none"]', "absolute path"),
        ('name = "a"\ncommand = ["./none"]', "does not exist"),
        ('name = "a"\ncommand = ["./bad.json"]', "is not executable"),
        ('name = "a"\ncommand = ["/bin/true"]\ntimeout_s = 90', "timeout_s"),
        ('name = "a"\nmust_match = "x"\n[[release.judge]]\nname = "a"\nmust_match = "y"', "two judges"),
        ('name = "a"\nmust_mtach = "x"', "unknown key"),
    ],
)
def test_what_cannot_judge_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    for name, schema in {
        "bad.json": "{",
        "kind.json": '{"type": 7}',
        "far.json": '{"$ref": "https://example.com/x"}',
        "names.json": '{"patternProperties": {"(a+)+$": {}}}',
        "slow.json": '{"items": {"pattern": "(a)\\\\1"}}',
    }.items():
        (tmp_path / name).write_text(schema)
    file = tmp_path / "ashore.toml"
    file.write_text(f"[[release.judge]]\n{text}\n")
    with pytest.raises(InvalidSpec) as refused:
        read_spec(file)
    assert told in refused.value.message + refused.value.hint
