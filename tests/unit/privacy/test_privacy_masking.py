"""Taking values out and giving them back: tables, pseudonyms, streams cut anywhere, what the model utters by itself."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashore.core.errors import PersonalDataBlocked
from ashore.data.privacy import (
    KINDS,
    AnswerGuard,
    Detectors,
    Outlet,
    Privacy,
    PrivacyPolicy,
    PrivacyRoute,
    StandIns,
    Table,
    rules_for,
)
from ashore.data.privacy.checksums import credit_code_check, id_card_check, passes_iban, passes_luhn

ID = "11010519491231002X"
VISA = "4111111111111111"
VALUES = [
    ID, "110105 19491231 002X", VISA, "6222 0202 1234 5678 909", "13812345678", "138-1234-5678", "+86 138 1234 5678",
    "010-62345678", "a.b@example.org", "GB82 WEST 1234 5698 7654 32", "91350100M000100Y43", "京A12345", "123-45-6789",
    "192.168.1.10", "2001:db8::1", "00:1A:2B:3C:4D:5E", "sk-proj-abcDEF1234567890abcdef",
    "E12345678", "+1 212 555 0123",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEAx0\n-----END RSA PRIVATE KEY-----", "１３８１２３４５６７８",
]  # fmt: skip
FILLERS = [
    "，",
    "。",
    " and ",
    "\n",
    "；号码是",
    " (",
    ") ",
    "卡",
    "…",
    " x ",
    "[",
    "]",
    "[PHONE_1]",
    "[note]",
    "【1】",
    "\\",
    "😀",
]
SECRET = b"s" * 32

finder = Detectors()
texts = st.lists(st.tuples(st.sampled_from(FILLERS), st.sampled_from(VALUES)), max_size=8).map(
    lambda pairs: "".join(filler + value for filler, value in pairs) + "."
)
cuts = st.lists(st.integers(1, 9), min_size=1, max_size=20)


def table(prompts: dict[str, str], answers: dict[str, str] | None = None) -> Table:
    policy = PrivacyPolicy(prompts=prompts, answers=answers or {})  # type: ignore[arg-type]
    return Table(finder, rules_for(policy, "t", "a"), lambda: SECRET)


def through(outlet: Outlet, text: str, sizes: Sequence[int]) -> str:
    out, at, turn = [], 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        out.append(outlet.feed(text[at : at + size]))
        at, turn = at + size, turn + 1
    return "".join(out) + outlet.end()


@given(texts, cuts, st.sampled_from(["mask", "pseudonymise"]))
@settings(max_examples=200, deadline=None)
def test_what_was_taken_out_comes_back_however_the_stream_is_cut(text: str, sizes: list[int], action: str) -> None:
    one = table({"*": action})
    one.reserve(text)
    masked = one.mask(text)
    for entity in finder.find(text):
        assert len(text[entity.start : entity.end]) < 5 or text[entity.start : entity.end] not in masked
    assert through(Outlet(StandIns(one.entries), None), masked, sizes) == text


@given(st.text(max_size=120), cuts)
@settings(max_examples=200, deadline=None)
def test_any_text_comes_back(text: str, sizes: list[int]) -> None:
    one = table({"*": "mask"})
    one.reserve(text)
    assert through(Outlet(StandIns(one.entries), None), one.mask(text), sizes) == text


@given(texts, cuts)
@settings(max_examples=200, deadline=None)
def test_an_answer_is_masked_the_same_however_it_is_cut(text: str, sizes: list[int]) -> None:
    def guarded(sizes: Sequence[int]) -> str:
        one = table({}, {"*": "mask", "name": "allow", "address": "allow"})
        policy = PrivacyPolicy(answers={"*": "mask", "name": "allow", "address": "allow"})
        return through(Outlet(StandIns(()), AnswerGuard(finder, rules_for(policy, "t", "a").answers, one)), text, sizes)

    whole = guarded([len(text) + 1])
    assert guarded(sizes) == whole
    assert ID not in whole and VISA not in whole and "13812345678" not in whole


def test_a_stream_of_plain_words_is_not_held_back() -> None:
    one = table({"*": "mask"})
    one.mask(f"my card is {VISA}")
    outlet = Outlet(StandIns(one.entries), None)
    assert outlet.feed("Hello, how are you? ") == "Hello, how are you? "
    assert outlet.feed("Your card [BANK") == "Your card "
    assert outlet.feed("_CARD_") == ""
    assert outlet.feed("1] is") == f"{VISA} is"
    assert outlet.feed(" [unrelated") == " [unrelated"


@pytest.mark.parametrize(
    "written",
    [
        "[PHONE_1]", "[phone_1]", "[Phone 1]", "[ PHONE_1 ]", "［PHONE_1］", "【PHONE_1】", "[PHONE-1]",
        "[ＰＨＯＮＥ＿１]",
        "[PHONE\\_1]", "\\[PHONE_1\\]", "(PHONE_1)", "<PHONE_1>", "[PHONE1]", "{PHONE_1}",
    ],
)  # fmt: skip
def test_a_placeholder_that_the_model_altered_a_little_is_restored(written: str) -> None:
    one = table({"*": "mask"})
    one.mask("13812345678")
    for sizes in ([1], [3], [50]):
        assert through(Outlet(StandIns(one.entries), None), f"call {written}!", sizes) == "call 13812345678!"


@pytest.mark.parametrize("written", ["[PHONE_2]", "[PHONE]", "PHONE_1", "[PHONE_11]", "[ID_CARD_1]", "[PHONE_1", "[]"])
def test_what_is_no_placeholder_of_this_request_stays(written: str) -> None:
    one = table({"*": "mask"})
    one.mask("13812345678")
    assert through(Outlet(StandIns(one.entries), None), written, [2]) == written


def test_a_pseudonym_in_another_grouping_is_restored() -> None:
    one = table({"*": "pseudonymise"})
    masked = one.mask("13812345678")
    grouped = f"{masked[:3]}-{masked[3:7]}-{masked[7:]}"
    assert through(Outlet(StandIns(one.entries), None), f"call {grouped}.", [2]) == "call 13812345678."


def test_nothing_comes_back_that_this_request_did_not_put_in() -> None:
    other = table({"*": "pseudonymise"})
    stolen = other.mask(ID)
    mine = table({"*": "pseudonymise"})
    assert mine.mask("13812345678") != "13812345678"
    assert through(Outlet(StandIns(mine.entries), None), stolen, [3]) == stolen


def test_a_placeholder_that_somebody_typed_keeps_its_meaning() -> None:
    one = table({"*": "mask"})
    text = "[PHONE_1] means 13812345678"
    one.reserve(text)
    masked = one.mask(text)
    assert masked == "[PHONE_1] means [PHONE_2]"
    assert through(Outlet(StandIns(one.entries), None), masked, [4]) == text


def test_one_value_has_one_number_and_each_of_its_forms_comes_back() -> None:
    one = table({"*": "mask"})
    assert one.mask("13812345678, 138-1234-5678, 13912345678") == "[PHONE_1], [PHONE_1b], [PHONE_2]"
    assert one.mask("13812345678") == "[PHONE_1]"


def test_pseudonyms_pass_the_test_of_their_class_and_are_nobodys() -> None:
    one = table({"*": "pseudonymise"})
    number = one.mask(ID)
    assert id_card_check(number[:17]) == number[17] and number[:2] == "99"
    assert passes_luhn(one.mask(VISA)) and one.mask(VISA)[:4] == "9999"
    assert passes_iban(one.mask("GB82WEST12345698765432"))
    code = one.mask("91350100M000100Y43")
    assert credit_code_check(code[:17]) == code[17]
    assert one.mask("a.b@corp.cn").endswith("@example.com")
    assert one.mask("123-45-6789").startswith("666-")
    assert one.mask("10.20.30.40").rpartition(".")[0] in ("192.0.2", "198.51.100", "203.0.113")
    assert one.mask("6222 0202 1234 5678 909").count(" ") == 4


def test_pseudonyms_are_stable_in_a_conversation_and_differ_between_conversations() -> None:
    privacy = Privacy(PrivacyPolicy(prompts={"*": "pseudonymise"}), secret=SECRET)

    def invented(principal: str, beginning: str, secret: Privacy = privacy) -> str:
        one, _ = secret.table(tenant="t", principal=principal, alias="a", beginning=beginning)
        return one.mask(ID)

    assert invented("p", "hello") == invented("p", "hello")
    assert len({invented("p", "hello"), invented("q", "hello"), invented("p", "bye")}) == 3
    assert invented("p", "hello", Privacy(privacy.now.policy, secret=b"o" * 32)) != invented("p", "hello")


def test_json_stays_json() -> None:
    one = table({"*": "mask"})
    text = json.dumps({"to": "13812345678", "n": 13912345678, "13812345678": ["x", None, True, 1.5], "id": 7})
    masked = one.mask_json(text)
    assert json.loads(masked) == {
        "to": "[PHONE_1]", "n": "[PHONE_2]", "[PHONE_1]": ["x", None, True, 1.5], "id": 7,
    }  # fmt: skip
    assert one.mask_json('{ "a" : 1 }') == '{ "a" : 1 }'
    assert one.mask_json("not json 13812345678") == "not json [PHONE_1]"
    assert json.loads(one.mask_json('{"p":"\\u0031\\u00338 1234 5678"}')) == {"p": "[PHONE_1b]"}


def test_a_value_is_escaped_where_it_returns_into_json() -> None:
    one = table({"*": "mask"})
    key = '-----BEGIN PRIVATE KEY-----\nMIIE"x\n-----END PRIVATE KEY-----'
    masked = one.mask(key)
    arguments = json.dumps({"key": masked})
    assert json.loads(through(Outlet(StandIns(one.entries), None, as_json=True), arguments, [3])) == {"key": key}


def test_blocked_kinds_are_named_with_counts_and_without_values() -> None:
    one = table({"*": "block"})
    one.mask(f"{ID} {VISA} 4111-1111-1111-1111")
    with pytest.raises(PersonalDataBlocked) as refused:
        one.check()
    assert "2 bank_card, 1 id_card" in refused.value.message
    assert ID not in refused.value.message and "4111" not in refused.value.message
    assert refused.value.code == "personal_data_blocked"


def test_an_answer_with_blocked_data_breaks_off_before_it() -> None:
    policy = PrivacyPolicy(answers={"id_card": "block"})
    guard = AnswerGuard(finder, rules_for(policy, "t", "a").answers, table({}))
    outlet = Outlet(StandIns(()), guard)
    out = outlet.feed("The number is 110105194912")
    assert "1101" not in out
    with pytest.raises(PersonalDataBlocked):
        outlet.feed("31002X, as you see: nothing more to say about it.")


def test_values_that_the_request_held_may_be_repeated() -> None:
    one = table({"*": "allow"})
    one.mask("call 138-1234-5678")
    policy = PrivacyPolicy(answers={"*": "mask"})
    guard = AnswerGuard(finder, rules_for(policy, "t", "a").answers, one)
    assert through(Outlet(StandIns(()), guard), "13812345678 or 13912345678", [5]) == "13812345678 or [PHONE]"


def test_the_most_particular_route_decides() -> None:
    policy = PrivacyPolicy(
        prompts={"phone": "mask"},
        routes=(
            PrivacyRoute(alias="chat", prompts={"phone": "allow", "email": "block"}),
            PrivacyRoute(tenant="bank", prompts={"*": "mask"}),
            PrivacyRoute(tenant="bank", alias="chat", prompts={"phone": "pseudonymise"}),
        ),
    )
    cases = {
        ("other", "x"): ("mask", "allow", "mask"),
        ("other", "chat"): ("allow", "block", "mask"),
        ("other", "chat:adapter"): ("allow", "block", "mask"),
        ("bank", "x"): ("mask", "mask", "mask"),
        ("bank", "chat"): ("pseudonymise", "mask", "mask"),
    }
    for (tenant, alias), wanted in cases.items():
        rules = rules_for(policy, tenant, alias)
        assert tuple(rules.prompts[kind] for kind in ("phone", "email", "id_card")) == wanted


def test_a_new_home_masks_what_names_a_person_for_life_and_nothing_else() -> None:
    rules = rules_for(PrivacyPolicy(), "t", "a")
    masked = {kind for kind in KINDS if rules.prompts[kind] == "mask"}
    assert masked == {
        "private_key", "secret", "iban", "id_card", "bank_card", "ssn", "passport", "travel_permit",
    }  # fmt: skip
    assert not rules.reads_answers


def test_rules_that_were_asked_for_hold_until_the_policy_is_another_one() -> None:
    privacy = Privacy(PrivacyPolicy(prompts={"phone": "mask"}), secret=SECRET)
    before = privacy.rules("t", "a")
    assert privacy.rules("t", "a") is before and before.prompts["phone"] == "mask"
    privacy.apply(PrivacyPolicy(prompts={"phone": "block"}, answers={"phone": "mask"}))
    after = privacy.rules("t", "a")
    assert (after.prompts["phone"], after.reads_answers, before.reads_answers) == ("block", True, False)


def test_another_policy_has_another_stamp() -> None:
    privacy = Privacy(PrivacyPolicy(), secret=SECRET)
    before = privacy.now.stamp
    privacy.apply(PrivacyPolicy(prompts={"phone": "mask"}))
    assert privacy.now.stamp != before
    privacy.apply(PrivacyPolicy())
    assert privacy.now.stamp == before


def test_long_streams_take_linear_time() -> None:
    one = table({"*": "mask"})
    masked = one.mask(f"{ID} {VISA}") + " [" * 200
    outlet = Outlet(StandIns(one.entries), None)
    pieces = 0
    for _ in range(2_000):
        pieces += len(outlet.feed(masked[random.Random(pieces).randrange(3) :]))
    assert pieces
