"""Numbers made of digits: identity cards, bank cards, telephones, social security numbers.

Runs of digits with single separators between them are found in one pass; every sequence of whole runs is then judged by
its length, its prefix, its grouping and its check digit. Work is linear: a sequence has at most `MOST_DIGITS` digits.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from typing import Final

from ashore.data.privacy.model import Entity
from ashore.data.privacy.page import Page, Runs, stands_free
from ashore.data.privacy.phones import international, phone_of
from ashore.data.privacy.rules import is_bank_card, is_birthday, is_id_card, is_region, is_ssn

FEWEST_DIGITS: Final = 7
MOST_DIGITS: Final = 20
MOST_GROUPS: Final = 7
"""No number is written in more groups, unless every digit stands apart."""
MOST_SPELT: Final = 40
"""Digits that stand apart in a longer row are a table or an attack: judging each start with each end would cost
minutes for a megabyte."""
SSN_WORD_CHARS: Final = 40

_CLUSTER: Final = re.compile(r"[0-9]+(?:(?: ?[-.·_/)）] ?[(（]?| {1,2}[(（]?|[ -]?\r?\n)[0-9]+)*")
_ROW: Final = re.compile(rf"[0-9][0-9 \-.·_/)）(（\r\n]{{{FEWEST_DIGITS - 2},}}[0-9]")
"""Reaches over one cluster or several; the much simpler search."""
_DATE: Final = re.compile(r"(?:19|20)[0-9]{2}([-./])[01]?[0-9]\1[0-3]?[0-9](?: [0-2]?[0-9])?")
_QUAD: Final = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?:/[0-9]{1,2})?")
"""An address of a machine; so short that nothing else is in it."""
_RUN: Final = re.compile(r"[0-9][0-9]*")
_CONTEXT_ID: Final = re.compile(
    r"身份证|身分证|证件号|公民身份|居民证|(?<![A-Za-z])id(?:entity)?[ _-]?(?:card|no|number)", re.IGNORECASE
)
_CONTEXT_CARD: Final = re.compile(r"卡|账号|帐号|账户|帐户|card|account|visa|mastercard|amex")
"""For texts in lower case, and so is `_NOT_PERSONAL`."""
_CONTEXT_SSN: Final = re.compile(
    r"(?:(?<![A-Za-z])ssn(?![A-Za-z])|social(?: security)?(?: (?:no|number|num|#))?"
    r"|taxpayer(?: id)?|tax id|itin|社保号|社安号|社会安全号码?|社会保障号码?)"
    r"[^0-9\n]{0,20}\Z",
    re.IGNORECASE,
)
_SSN_BEHIND: Final = re.compile(r"[^0-9\n]{0,8}(?:ssn|social security)(?![a-z])", re.IGNORECASE)
_PASSPORT: Final = re.compile(
    r"(?:护照(?:号码?)?|passport(?: ?(?:no|number|num|#))?\.?)[^0-9A-Za-z\n]{0,4}(?:is |为|是)?[^0-9A-Za-z\n]{0,2}\Z",
    re.IGNORECASE,
)
_PERMIT: Final = re.compile(r"(?:台胞证|通行证|回乡证)(?:号码?)?[^0-9A-Za-z\n]{0,4}(?:为|是)?[^0-9A-Za-z\n]{0,2}\Z")
_NOT_PERSONAL: Final = re.compile(
    r"(?:订单|运单|快递|物流|流水|发票|合同|工单|交易|批次|序列|产品|商品|物料|货|版本|条形?码|案|文)"
    r"(?:编?号码?|单号|代?码)[ :：#=\-\"'“]{0,3}(?:为|是)?[ :：\"'“]{0,2}\Z"
    r"|(?:order|invoice|tracking|serial|ticket|isbn|sku|batch|part|build|transaction)"
    r"(?:[ _-]?(?:no|num|number|id|#))?\.?[ :#=]{0,3}(?:is )?\Z"
    r"|[¥$€£]\s?\Z",
)
_LABEL_ENDS: Final = frozenset(string.ascii_lowercase + string.whitespace + " ：:#=-\"'“为是号码单案文码.¥$€£\u3000")
"""What may stand right before the number then; tells most of them at one look."""

_HEADS: Final[Mapping[int, str]] = {
    7: "2345678", 8: "2345678", 9: "012345678", 10: "023456789", 11: "01", 12: "08", 13: "48", 14: "038",
    15: "0123456789", 16: "2345689", 17: "123456789", 18: "123456789", 19: "345689", 20: "",
}  # fmt: skip
"""First digits that a number of so many may have, whichever its kind; of one in a single piece, those of `_HEADS_ALONE`
too: passports and permits begin with any."""
_HEADS_ALONE: Final[Mapping[int, str]] = {**_HEADS, 8: "0123456789", 9: "0123456789"}


def find_numbers(page: Page) -> list[Entity]:
    """Return the entities among numbers."""
    text = page.text
    found: list[Entity] = []
    for row in _ROW.finditer(text):
        start, end = row.span()
        if not row[0].isdigit():
            for cluster in _CLUSTER.finditer(text, start, end):
                if cluster.end() - cluster.start() >= FEWEST_DIGITS:
                    _read_cluster(page, cluster, found)
        elif end - start <= MOST_DIGITS and text[start] in _HEADS_ALONE[end - start]:
            one = _judge(page, row[0], [(start, end)])
            if one is not None:
                found.append(page.entity(*one))
    return found


def _read_cluster(page: Page, cluster: re.Match[str], found: list[Entity]) -> None:
    """Add the entities of one cluster to `found`."""
    text, piece = page.text, cluster[0]
    if (piece[4] in "-./" and _DATE.fullmatch(piece)) or (piece.count(".") > 2 and _QUAD.fullmatch(piece)):
        return
    runs = []
    left = at = 0
    for run in _RUN.finditer(text, *cluster.span()):
        start, end = span = run.span()
        runs.append(span)
        left += end - start
    while left >= FEWEST_DIGITS:  # that many digits follow from here
        start, end = runs[at]
        if end - start == 1 and (spelt := _spelt(runs, at)) > MOST_SPELT:
            at, left = at + spelt, left - spelt
            continue
        best = _best_from(page, runs, at)
        if best is None:
            at, left = at + 1, left - (end - start)
            continue
        kind, start, end, to = best
        found.append(page.entity(kind, start, end))
        left -= sum([end - start for start, end in runs[at : to + 1]])
        at = to + 1


def _best_from(page: Page, runs: Runs, at: int) -> tuple[str, int, int, int] | None:
    """Return the number that begins with a run: its kind, its position, and its last run; None if there is none."""
    text = page.text
    head = text[runs[at][0]]
    best: tuple[str, int, int, int] | None = None
    digits = ""
    most = MOST_GROUPS
    if at + most < len(runs):  # a prefix in one piece may precede separated digits
        most = max(most, 1 + _spelt(runs, at + 1))
    for to in range(at, min(len(runs), at + most)):
        start, end = runs[to]
        digits += text[start:end]
        size = len(digits)
        if size < FEWEST_DIGITS:
            continue
        if size > MOST_DIGITS:
            break
        if head not in (_HEADS if to > at else _HEADS_ALONE)[size]:
            continue
        found = _judge(page, digits, runs[at : to + 1])
        if found is not None and (best is None or _weight(found[0]) >= _weight(best[0])):
            best = (*found, to)
    return best


def _spelt(runs: Runs, at: int) -> int:
    """Return the number of consecutive single-digit runs from here."""
    to = at
    while to < len(runs) and runs[to][1] - runs[to][0] == 1:
        to += 1
    return to - at


def _weight(kind: str) -> int:
    return 4 if kind == "id_card" else 2 if kind == "bank_card" else 1


def _judge(page: Page, digits: str, runs: Runs) -> tuple[str, int, int] | None:
    """Return the kind of these runs together, and its position (which may extend beyond them)."""
    text = page.text
    start, end = runs[0][0], runs[-1][1]
    size = len(digits)
    if size == 17:
        tail = _check_letter(text, end)
        if tail and is_id_card(digits + "X") and _well_set(text, runs) and not _mixes_lines(text, runs, digits):
            return "id_card", start, tail
    elif size == 18:
        if is_id_card(digits) and _well_set(text, runs) and not _mixes_lines(text, runs, digits):
            return "id_card", start, end
    elif size != 9 and size < 16:
        phone = phone_of(page, digits, runs)
        if phone is not None and not _is_no_number(text, runs, digits):
            first, last, sure = phone
            if sure or not _is_said_otherwise(page.low_before(first)):
                return "phone", first, last
        if 9 < size < 13:
            return None
    if size < 10:
        return _short(page, digits, runs)
    if (
        is_bank_card(digits)
        and not page.glued(start, end)
        and _card_groups(text, runs, digits)
        and not _is_no_number(text, runs, digits)
    ):
        before = page.low_before(start)
        if _CONTEXT_CARD.search(before):
            return "bank_card", start, end
        if digits[0] in "23456" and not _is_said_otherwise(before):
            return "bank_card", start, end
    if (
        size == 15
        and is_region(digits)
        and is_birthday("19" + digits[6:12])
        and _CONTEXT_ID.search(page.before(start))
        and not page.glued(start, end)
        and not _is_no_number(text, runs, digits)
    ):
        return "id_card", start, end
    return None


def _short(page: Page, digits: str, runs: Runs) -> tuple[str, int, int] | None:
    """Judge seven to nine digits that are not a telephone number."""
    text, size = page.text, len(digits)
    start, end = runs[0][0], runs[-1][1]
    kind = ""
    if size == 9:
        if is_ssn(digits) and _is_ssn_written(page, runs):
            kind = "ssn"
        elif len(runs) == 1:
            before = page.low_before(start)
            if ("护照" in before or "passport" in before) and _PASSPORT.search(page.before(start)):
                kind = "passport"
    elif size == 8 and len(runs) == 1:
        before = page.before(start)
        if "证" in before and _PERMIT.search(before):
            kind = "travel_permit"
    return (kind, start, end) if kind and not page.glued(start, end) and not _is_no_number(text, runs, digits) else None


def _is_no_number(text: str, runs: Runs, digits: str) -> bool:
    """Return whether the text is a decimal fraction, a machine's address, or spread over unrelated lines."""
    return (
        _is_decimal(text, runs[0][0], runs[-1][1])
        or (len(runs) > 3 and _is_dotted_quad(text, runs))
        or _mixes_lines(text, runs, digits)
    )


def find_international(page: Page) -> Iterator[Entity]:
    """Yield telephone numbers that begin with a plus sign."""
    for start, end in international(page.text):
        yield page.entity("phone", start, end)


def _is_said_otherwise(before: str) -> bool:
    """Return whether a lower-case word before a number identifies it as not personal."""
    return before[-1:] in _LABEL_ENDS and bool(_NOT_PERSONAL.search(before))


def _check_letter(text: str, end: int) -> int:
    """Return the end of the X that closes an identity number, 0 if there is none."""
    at = end
    while at < len(text) and text[at] in " -·." and at - end < 2:
        at += 1
    if (
        at < len(text)
        and text[at] in "Xx×"
        and not (at + 1 < len(text) and text[at + 1].isascii() and text[at + 1].isalnum())
    ):
        return at + 1
    return 0


def _mixes_lines(text: str, runs: Runs, digits: str) -> bool:
    """Return whether some groups are on separate lines and others are not; a calling code may precede them."""
    if len(runs) < 2 or "\n" not in text[runs[0][0] : runs[-1][1]]:
        return False
    after_country = digits.startswith(("86", "0086")) and len(runs) > 2
    return len({"\n" in gap for gap in _separators(text, runs[1:] if after_country else runs)}) > 1


def _separators(text: str, runs: Runs) -> set[str]:
    return {text[runs[i][1] : runs[i + 1][0]] for i in range(len(runs) - 1)}


def _well_set(text: str, runs: Runs) -> bool:
    """Return whether the groups of an identity number have plausible sizes for one number."""
    return len(runs) == 1 or len(_separators(text, runs)) <= 2


def _card_groups(text: str, runs: Runs, digits: str) -> bool:
    """Return whether the groups may form one card number, and not part of a longer number."""
    if len(runs) == 1:
        return True
    separators = _separators(text, runs)
    widths = [end - start for start, end in runs]
    if len(separators) > 1 or not (set(widths) == {1} or (len(runs) <= 6 and widths[0] >= 4)):
        return False
    if len(runs) == 2 and (widths[1] < 4 or (widths[0] > 8 and any("\n" in gap for gap in separators))):
        return False
    longer = digits.startswith("62") and len(digits) < 19
    return stands_free(text, runs, next_width=4 if longer else 0)


def _is_ssn_written(page: Page, runs: Runs) -> bool:
    """Return whether nine digits are grouped as a social security number, or labelled as one."""
    widths = [end - start for start, end in runs]
    if widths == [3, 2, 4]:
        separators = _separators(page.text, runs)
        written = len(separators) == 1 and (separators <= {"-", " ", "."} or _is_said_ssn(page, runs))
    else:
        written = (len(runs) == 1 or set(widths) in ({1}, {3})) and _is_said_ssn(page, runs)
    return written and stands_free(page.text, runs)


def _is_said_ssn(page: Page, runs: Runs) -> bool:
    behind = page.text[runs[-1][1] : runs[-1][1] + SSN_WORD_CHARS]
    return bool(_CONTEXT_SSN.search(page.before(runs[0][0], SSN_WORD_CHARS)) or _SSN_BEHIND.match(behind))


def _is_dotted_quad(text: str, runs: Runs) -> bool:
    """Return whether the runs begin with four byte-sized numbers separated by dots: a machine's address."""
    return (
        len(runs) >= 4
        and _separators(text, runs[:4]) == {"."}
        and all(end - start <= 3 and int(text[start:end]) < 256 for start, end in runs[:4])
    )


def _is_decimal(text: str, start: int, end: int) -> bool:
    """Return whether the digits are part of a decimal fraction or an amount with one."""
    if start >= 2 and text[start - 1] == "." and text[start - 2].isdigit():
        at = start - 2
        while at > 0 and text[at - 1].isdigit() and start - at < 6:
            at -= 1
        whole = text[at : start - 1]
        item = 0 < len(whole) < 3 and whole[0] != "0" and (at == 0 or text[at - 1] in "\n\r")
        return not item
    return (
        end + 1 < len(text)
        and text[end] == "."
        and text[end + 1].isdigit()
        and not (end + 3 < len(text) and text[end + 1 : end + 4].isdigit())
    )
