"""Rules of passwords and of the profile for MLPS level 3, codes, locks, and what `[console]` refuses."""

from __future__ import annotations

import pytest

from ashore.control.sessions import factor
from ashore.control.sessions.locks import LONGEST_S, Tries, after_failure
from ashore.control.sessions.rules import DEFAULT, MLPS3, rules_of, weakness_of
from ashore.core.errors import InvalidSpec
from ashore.machine.config import parse_spec


@pytest.mark.parametrize("password, default, mlps3", [
    ("correct horse battery", "", "kinds"), ("Tr0ub4dor&3xy", "", ""), ("xK9$mm2pQ7", "needs at least 12", ""),
    ("aaaaaaaaaaaa", "in a row", "kinds"), ("abcdefghijkl", "in a row", "kinds"),
    ("Abcdefghij1!", "in a row", "in a row"),
    ("P@ssw0rd2024!", "everybody", "everybody"), ("Password2024!!", "everybody", "everybody"),
    ("Alice-likes-tea", "name of the account", "name of the account"), ("eciLA-l1kes-tea", "name", "name"),
    ("x" * 129, "at most 128", "at most 128"), ("good\x00password", "control", "control"),
    ("妙笔生花妙笔生辉千山万水", "", "kinds"), ("Woaini1314520", "everybody", "everybody"),
])  # fmt: skip
def test_passwords(password: str, default: str, mlps3: str) -> None:
    for rules, why in ((DEFAULT, default), (MLPS3, mlps3)):
        said = weakness_of(password, rules, account="corp:alice")
        assert (why in said) if why else not said, (rules.password_kinds, said)


def test_the_codes_are_those_of_rfc_6238() -> None:
    secret = b"12345678901234567890"
    known = {1_111_111_109: "081804", 1_234_567_890: "005924", 20_000_000_000: "353130"}
    for at_s, code in known.items():
        assert factor.code_at(secret, at_s // 30) == code
        for drift, taken in ((-60, False), (-30, True), (0, True), (30, True), (60, False)):
            assert (factor.step_of(secret, code, at_s + drift, after=0) is not None) is taken
        assert factor.step_of(secret, code, at_s, after=at_s // 30) is None, "used"


def test_recovery_codes_are_written_as_one_likes() -> None:
    codes = factor.new_recovery_codes()
    assert len({*codes}) == factor.NUM_RECOVERY and all(len(code) == 19 for code in codes)
    kept = factor.digest_of_recovery(codes[0])
    assert factor.digest_of_recovery(f" {codes[0].upper().replace('-', '  ')} ") == kept != codes[0]


def test_a_lock_grows_and_never_lasts() -> None:
    tries, now_s, lengths = Tries(), 1_700_000_000, []
    for _ in range(40):
        for _ in range(DEFAULT.tries):
            now_s += 1
            tries = after_failure(tries, DEFAULT, now_s)
        lengths.append(tries.left_s(now_s))
        now_s = tries.locked_until_s
    assert lengths[:4] == [900, 1800, 3600, 3600] and max(lengths) == LONGEST_S
    assert after_failure(tries, DEFAULT, now_s + 2 * 86_400).locks == 0, "a calm day"
    slow = Tries()
    for at in range(20):
        slow = after_failure(slow, DEFAULT, 1_700_000_000 + at * 300)
        assert not slow.left_s(1_700_000_000 + at * 300), "once in five minutes is no attack"


CORP = """
[[access.issuer]]
name = "corp"
issuer = "https://id.corp.example"
audience = "ashore"
jwks_file = "/x/jwks.json"
"""
PROVIDER = '[[console.provider]]\nissuer = "corp"\nclient_id = "ashore-console"\n'


def test_the_profile_is_in_force_and_can_be_made_stricter() -> None:
    console = parse_spec('[console]\nprofile = "mlps3"\nidle_s = 600\npassword_chars = 14').sections()["console"]
    assert console.rules == rules_of("mlps3", {"idle_s": 600, "password_chars": 14})
    rules = console.rules
    assert (rules.factor, rules.password_kinds, rules.password_max_age_days, rules.lock_s) == ("all", 3, 90, 1800)
    assert parse_spec("").sections()["console"].rules == DEFAULT


@pytest.mark.parametrize(
    "text, says",
    [
        ('[console]\nprofile = "mlps3"\nidle_s = 1800', "looser"),
        ('[console]\nprofile = "mlps3"\nfactor = "nobody"', "looser"),
        ('[console]\nprofile = "mlps3"\npassword_max_age_days = 91', "looser"),
        ('[console]\nprofile = "mlps3"\npassword_kinds = 2', "looser"),
        ('[console]\nprofile = "mlps3"\nlock_s = 60', "looser"),
        ('[console]\nprofile = "djcp"', "profile"),
        ("[console]\nidle_s = 1", "idle_s"),
        (PROVIDER, "no [[access.issuer]]"),
        (CORP + PROVIDER + PROVIDER, "two providers"),
        (CORP + PROVIDER + 'scopes = ["profile"]', "openid"),
        (CORP + PROVIDER + 'authorize_url = "https://id.corp.example/a"', "both"),
        (
            CORP + PROVIDER + 'authorize_url = "http://id.corp.example/a"\ntoken_url = "http://id.corp.example/t"',
            "https",
        ),
        (
            CORP + PROVIDER + 'authorize_url = "https://id.corp.example/a"\ntoken_url = "https://id.corp.example/t"',
            "egress",
        ),
    ],
)
def test_what_the_section_refuses(text: str, says: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(text)
    assert says in f"{refused.value} {refused.value.hint}"
