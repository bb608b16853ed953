"""What the detectors find and what they leave: tables of cases by kind, adversarial forms, and texts made to hurt."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashore.data.privacy import KINDS, Detectors
from ashore.data.privacy.checksums import (
    credit_code_check,
    hong_kong_check,
    iban_check,
    id_card_check,
    luhn_check,
    passes_iban,
    passes_luhn,
)
from ashore.data.privacy.page import Page

ID = "11010519491231002X"
"""The example of GB 11643."""
CREDIT = "91350100M000100Y43"
UNIONPAY = "622202021234567890" + luhn_check("622202021234567890")
VISA = "4111111111111111"
IBAN = "GB82WEST12345698765432"
GITHUB = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEAx0\nq1w2e3==\n-----END RSA PRIVATE KEY-----"

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N"
ESCAPED = "\\uff10\\uff12\\uff12-\\uff16\\uff12\\uff13\\uff14\\uff15\\uff16\\uff17\\uff18"

detectors = Detectors()


def found(text: str) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in detectors.find(text)]


def wide(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


GOOD = [
    ("id_card", f"身份证{ID}请核对", ID),
    ("id_card", f"号码是{ID.lower()}。", ID.lower()),
    ("id_card", "证件 110105 19491231 002X", "110105 19491231 002X"),
    ("id_card", "110105-19491231-002X", "110105-19491231-002X"),
    ("id_card", "11010519491231 002 X", "11010519491231 002 X"),
    ("id_card", "旧身份证号110105491231002，已换", "110105491231002"),
    ("id_card", "HKID: A123456(3)", "A123456(3)"),
    ("phone", "打13812345678找我", "13812345678"),
    ("phone", "手机：138-1234-5678", "138-1234-5678"),
    ("phone", "138 1234 5678", "138 1234 5678"),
    ("phone", "138.1234.5678", "138.1234.5678"),
    ("phone", "+86 138 1234 5678", "+86 138 1234 5678"),
    ("phone", "+8613812345678", "+8613812345678"),
    ("phone", "0086-13812345678", "0086-13812345678"),
    ("phone", "1 3 8 1 2 3 4 5 6 7 8", "1 3 8 1 2 3 4 5 6 7 8"),
    ("phone", "一三八一二三四五六七八", "一三八一二三四五六七八"),
    ("phone", "请拨010-62345678", "010-62345678"),
    ("phone", "(0571)88888888", "(0571)88888888"),
    ("phone", "（021）6234 5678", "（021）6234 5678"),
    ("phone", "座机02062345678", "02062345678"),
    ("phone", "call (212) 555-0123 now", "(212) 555-0123"),
    ("phone", "212-555-0123", "212-555-0123"),
    ("phone", "+1 212 555 0123", "+1 212 555 0123"),
    ("phone", "+44 20 7946 0958", "+44 20 7946 0958"),
    ("phone", "+44 (0)20 7946 0958", "+44 (0)20 7946 0958"),
    ("phone", "+852 9123 4567", "+852 9123 4567"),
    ("bank_card", f"银行卡{VISA}已绑定", VISA),
    ("bank_card", f"卡号{UNIONPAY}，尾号", UNIONPAY),
    ("bank_card", "6222 0202 1234 5678 90" + UNIONPAY[18:], "6222 0202 1234 5678 90" + UNIONPAY[18:]),
    ("bank_card", "4111-1111-1111-1111", "4111-1111-1111-1111"),
    ("bank_card", "amex 3782 822463 10005", "3782 822463 10005"),
    ("credit_code", f"信用代码{CREDIT}有效", CREDIT),
    ("credit_code", f"税号 {CREDIT.lower()}", CREDIT.lower()),
    ("credit_code", "91350100 M000100Y43", "91350100 M000100Y43"),
    ("passport", "护照E12345678", "E12345678"),
    ("passport", "护照号码：EA1234567", "EA1234567"),
    ("passport", "Passport No. 123456789", "123456789"),
    ("travel_permit", "港澳通行证C12345678", "C12345678"),
    ("travel_permit", "回乡证H1234567890", "H1234567890"),
    ("travel_permit", "台胞证12345678", "12345678"),
    ("plate", "车牌京A12345在", "京A12345"),
    ("plate", "粤B·D12345", "粤B·D12345"),
    ("plate", "沪AF12345", "沪AF12345"),
    ("plate", "京A1234警", "京A1234警"),
    ("email", "邮箱zhang.san@example.com.cn给我", "zhang.san@example.com.cn"),
    ("email", "<a_b+c@sub.example.org>", "a_b+c@sub.example.org"),
    ("iban", f"IBAN: {IBAN}.", IBAN),
    ("iban", "GB82 WEST 1234 5698 7654 32", "GB82 WEST 1234 5698 7654 32"),
    ("iban", "de89370400440532013000 iban", "de89370400440532013000"),
    ("ssn", "SSN 123-45-6789", "123-45-6789"),
    ("ssn", "social security number 123456789", "123456789"),
    ("ip", "from 192.168.1.10:8080", "192.168.1.10"),
    ("ip", "服务器10.0.0.5宕机", "10.0.0.5"),
    ("ip", "2001:db8::1 and", "2001:db8::1"),
    ("ip", "fe80::1ff:fe23:4567:890a", "fe80::1ff:fe23:4567:890a"),
    ("mac", "00:1A:2B:3C:4D:5E", "00:1A:2B:3C:4D:5E"),
    ("secret", "AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    ("secret", f"token={GITHUB}", GITHUB),
    ("secret", "密钥sk-proj-abcDEF1234567890abcdef", "sk-proj-abcDEF1234567890abcdef"),
    ("secret", "key ash_0a1b2c3d4e5f60718293", "ash_0a1b2c3d4e5f60718293"),
    ("secret", f"bearer {JWT}", JWT),
    ("secret", "api_key: 9f8e7d6c5b4a39281706f5e4", "9f8e7d6c5b4a39281706f5e4"),
    ("secret", "密码是Hunter2!x。", "Hunter2!x"),
    ("secret", "postgres://bob:s3cr3t@db/x", "s3cr3t"),
    ("private_key", f"key:\n{PEM}\nend", PEM),
    ("private_key", PEM.replace("\n", "\\n"), PEM.replace("\n", "\\n")),
    ("name", "王先生您好", "王"),
    ("name", "联系李小明经理", "李小明"),
    ("name", "姓名：欧阳修", "欧阳修"),
    ("name", "Dear Mr. John Smith,", "John Smith"),
    ("address", "寄到北京市海淀区中关村大街27号院3号楼1201室", "北京市海淀区中关村大街27号院3号楼1201室"),
    ("address", "住在上海市浦东新区张江路100弄5号302室，", "上海市浦东新区张江路100弄5号302室"),
    ("address", "at 1600 Pennsylvania Avenue NW", "1600 Pennsylvania Avenue NW"),
]  # fmt: skip

DIGIT_KINDS = {"id_card", "phone", "bank_card", "ssn", "iban", "credit_code", "passport"}


@pytest.mark.parametrize(("kind", "text", "value"), GOOD, ids=[f"{kind}-{at}" for at, (kind, _, _) in enumerate(GOOD)])
def test_found_where_it_stands(kind: str, text: str, value: str) -> None:
    assert (kind, value) in found(text)


@pytest.mark.parametrize(
    ("kind", "text", "value"), [one for one in GOOD if one[0] in DIGIT_KINDS and "一" not in one[1]]
)
def test_found_in_full_width(kind: str, text: str, value: str) -> None:
    assert (kind, wide(value)) in found(text.replace(value, wide(value)))


@pytest.mark.parametrize(("kind", "text", "value"), [one for one in GOOD if one[0] in DIGIT_KINDS])
def test_found_with_characters_that_nobody_sees(kind: str, text: str, value: str) -> None:
    hidden = "\u200b".join(value)
    assert (kind, hidden) in found(text.replace(value, hidden))


@pytest.mark.parametrize(
    "text",
    [
        "身份证110105194912310021",  # check digit
        "110105194913310028",  # month 13
        "990105194912310020",  # no such region
        "银行卡4111111111111112",
        "订单号：13812345678",
        "order no 4111111111111111",
        "12345678901",
        "圆周率3.14159265358979323846",
        "0.4111111111111111",
        "价格¥13812345678",
        "2024-01-02 12:30:45",
        "1,381,234,567",
        "v1.2.3.4 与 1.2.3.4 节",
        "127.0.0.1 0.0.0.0 255.255.255.0",
        "256.300.1.2",
        "std::vector<int> a::b",
        "git@github.com:org/repo.git",
        "npm install react@18.2.0",
        "@property",
        "GB82WEST12345698765433",
        "XX82WEST12345698765432",
        "91350100M000100Y44",
        "000-12-3456 666-12-3456 900-12-3456 123-00-4567",
        "password: <your password>",
        "api_key: YOUR_API_KEY_GOES_HERE",
        "token is the unit of text",
        "550e8400-e29b-41d4-a716-446655440000",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "新A股上市",
        "任何先生",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "",
    ],
)
def test_left_alone(text: str) -> None:
    assert found(text) == []


def test_numbers_beside_each_other_are_told_apart() -> None:
    assert found(f"13812345678 {ID} {VISA} 010-62345678") == [
        ("phone", "13812345678"),
        ("id_card", ID),
        ("bank_card", VISA),
        ("phone", "010-62345678"),
    ]


def test_spans_are_characters_of_the_original_text() -> None:
    text = f"😀\u200b身份证{wide(ID)}。"
    (one,) = detectors.find(text)
    assert (one.start, one.end) == (text.index("１"), text.index("。"))


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_ordered_spans_inside_it(text: str) -> None:
    end = 0
    for one in detectors.find(text):
        assert end <= one.start < one.end <= len(text)
        assert one.kind in KINDS
        end = one.end


@given(st.text(alphabet="0123456789 -.+()@:/aEG京A省市路号先生王X\u200b１８", max_size=200))
@settings(max_examples=300, deadline=None)
def test_texts_of_what_detectors_look_for(text: str) -> None:
    end = 0
    for one in detectors.find(text):
        assert end <= one.start < one.end <= len(text)
        end = one.end


@pytest.mark.parametrize(
    "piece",
    [
        "1", "1 ", "1-", "0.", "1 3 8 ", "4111 ", "a@", "@", "a.", "@a.a", ":", "::", "a:", "1.1.1.", "-",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----", "A", "eyJ", "eyJa.", "sk-", "password=", "token ", "路1号", "省", "省市区县路",
        "北京市", "王", "王先", "先生", "Mr. A ", "A ", "1 A ", "1 A Street ", "+1", "+", "(", "（1）", "E1", "GB82 ",
        "京A", "一", "١", "１", "\u200b", "\u200b1", "name: A", "姓名", "姓名：王", "·", "https://a:", "=", "://",
    ],
)  # fmt: skip
def test_time_grows_with_the_length_alone(piece: str) -> None:
    """No text makes a search quadratic: ten times the length takes far less than a hundred times as long."""

    def seconds(length: int) -> float:
        text = (piece * (length // len(piece) + 1))[:length]
        best = 1e9
        for _ in range(3):
            started = time.process_time()
            detectors.find(text)
            best = min(best, time.process_time() - started)
        return best

    assert seconds(60_000) < 40 * seconds(6_000) + 0.05


@given(st.text(alphabet="0123456789", min_size=12, max_size=18))
def test_check_digits_agree_with_their_tests(body: str) -> None:
    assert passes_luhn(body + luhn_check(body))
    assert not passes_luhn(body + str((int(luhn_check(body)) + 1) % 10))
    assert passes_iban("DE" + iban_check("DE", body) + body)


def test_check_characters_of_published_examples() -> None:
    assert id_card_check("11010519491231002") == "X"
    assert credit_code_check(CREDIT[:17]) == CREDIT[17]
    assert hong_kong_check("A", "123456") == "3"
    assert iban_check("GB", IBAN[4:]) == "82"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("bank_card", "卡号：3528-421395-016426，合计", "3528-421395-016426"),
        ("id_card", "身份证110105\n1949\n1231\n002X，", "110105\n1949\n1231\n002X"),
        ("ip", "IP10.12.13.14离线", "10.12.13.14"),
        ("ip", "peer=[172.16.182.195]:49202", "172.16.182.195"),
        ("ip", "gateway 172.16.93.83/24", "172.16.93.83"),
        ("ip", "host:2001:db8::1", "2001:db8::1"),
        ("ip", "IPv6:2001:db8::1:7", "2001:db8::1:7"),
        ("ip", "ip2409:8a00:bf2:1:2:adfe:0:de5c离线", "2409:8a00:bf2:1:2:adfe:0:de5c"),
        ("ip", "2001:db8::1.443 >", "2001:db8::1"),
        ("phone", "010-62345678 x 110105 19491231 002X", "010-62345678"),
        ("name", "我是张先生", "张"),
        ("ssn", "123456789 (SSN)", "123456789"),
        ("ip", "::ffff:10.12.13.14", "::ffff:10.12.13.14"),
        ("plate", "plate京A12345and", "京A12345"),
        ("ssn", "SSN是123456789，别", "123456789"),
        ("phone", f'{{"tel":"{ESCAPED}"}}', ESCAPED),
        ("secret", "初始密码NsW$Ouio6wGg，请于", "NsW$Ouio6wGg"),
        ("email", "login user=li.lei@example.org ip", "li.lei@example.org"),
        ("phone", "传真+8657120894647-4801；", "+8657120894647-4801"),
        ("phone", "phone: +33 1 94 90 28 54, next", "+33 1 94 90 28 54"),
    ],
)
def test_found_in_company(kind: str, text: str, value: str) -> None:
    assert (kind, value) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "the card 2720 0525 3511 0683 failed",  # groups of a longer number are no telephone
        "快递单号SF8662321870708",
        "case 06325017-6539-4267-88d1-b1e603064bb7",
        'HTTP/1.1" 200 512\n2409 ms',
        "Clause 252.227-7013 (c)",
        "~+20191229111838+6991d5728f1",
        "order 762 65 9409 12 can you",
        "程序总监听端口；常见老师傅",
        "libfoo-10.12.13.14.tar.gz",
        "build 25.19.22.37",
    ],
)
def test_left_alone_in_company(text: str) -> None:
    assert found(text) == []


def test_places_of_escapes_and_of_what_is_not_seen_are_those_of_the_original() -> None:
    text = "a\\u0031\u200b\u200b2\\n3\\\\u00344\u200b张5\u2060"
    page = Page(text)
    assert page.text == "a12\n344张5"
    found = [page.entity("x", at, at + 1) for at in range(len(page.text))]
    spans = [text[one.start : one.end] for one in found]
    assert spans == ["a", "\\u0031", "2", "\\n", "3", "\\\\u0034", "4", "张", "5"]
    whole = page.entity("x", 0, len(page.text))
    assert (whole.start, whole.end) == (0, len(text) - 1)


def test_the_end_of_a_telephone_and_one_in_brackets_behind_it_are_no_third() -> None:
    text = "，+1 212 555 0123 (138-1234-5678."
    assert found(text) == [("phone", "+1 212 555 0123"), ("phone", "138-1234-5678")]


def test_a_telephone_before_a_passport_is_no_credit_code_by_chance() -> None:
    kinds = [kind for kind, _ in found("，+86 138 1234 5678 x E12345678.")]
    assert "phone" in kinds and "credit_code" not in kinds
