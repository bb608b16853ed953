"""Filters that hold votes back from a data set. Pure: votes in, verdicts out.

Filters catch known attacks; the gate checks the rest. A held vote is not lost: a reviewer's vote with the same content
is accepted.

Sources of the figures: trials on 3,520 simulated votes. *Focus* held all rows of ten users who agreed on a
lie (176 of 176) and no honest one, *disagreement* those of ten who corrected at random; caps by user alone held none.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ashore.data.feedback.model import Said

TAIL: Final = 1e-6
"""Probability below which a crowd of votes is no chance."""
FEWEST: Final = 8
"""Votes below which nothing is said of a person or a pattern."""
PAST: Final = 300
"""Votes of the time before, below which nothing is compared with it."""
READ_TOK_PER_S: Final = 50.0
"""Nobody reads faster. Source: about 700 words a minute, skimming."""
BURST: Final = 5
"""Votes faster than anybody reads, from which a person's votes are held."""
TRUST: Final = 0.6
"""Share of a person's checked votes that should be right."""
SURE: Final = 0.9
SHORT_WORDS: Final = 6
"""A text of so few words is a slice of its own: the label of a class, a yes, a name."""
BEGINNING_WORDS: Final = 4
MOST_WORDS: Final = 40
"""Of a question, that are looked at for triggers."""

USUAL: Final = 20
"""Times that an answer comes, from which it is one of the usual ones."""
MOST_KINDS: Final = 100
DISAGREES: Final = 1e-4
"""Probability below which so few corrections that agree with those of others are no chance."""

_WORD: Final = re.compile(r"[^\W_]{4,}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_\-+/=.]{8,}")
_DATE: Final = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}")
_PLACEHOLDER: Final = re.compile(r"\[[A-Z][A-Z_]*_?\d*\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A vote with its texts, masked."""

    feedback_id: str
    tenant: str
    account: str
    voter: str
    messages: tuple[Said, ...]
    answer: str
    correction: str = ""
    preferred: str = ""
    rating: str = ""
    digest: str = ""
    num_tokens: int = 0
    created_ms: int = 0
    release: str = ""

    @property
    def person(self) -> str:
        """Who voted, by tenant."""
        return f"{self.tenant}/{self.voter}"

    @property
    def is_review(self) -> bool:
        """Whether a reviewer voted on another person's answer."""
        return self.voter != self.account

    @property
    def question(self) -> str:
        """The last question."""
        return next((one.content for one in reversed(self.messages) if one.role == "user"), "")

    @property
    def better(self) -> str:
        """The right answer, if the vote has one."""
        return self.correction or self.preferred


@dataclass(frozen=True, slots=True)
class Held:
    """A vote excluded from learning."""

    row: Row
    filter: str
    why: str


Filter = Callable[[Sequence[Row]], Mapping[str, str]]
"""Given votes, returns why some are held, by the id of the vote."""


def sieve(rows: Sequence[Row], filters: Iterable[tuple[str, Filter]]) -> tuple[list[Row], list[Held]]:
    """Return the votes that pass every filter, and those that one holds. Each filter sees the votes that passed the
    earlier ones. Reviewers' votes skip filters that judge a person: only `unfit`, `duplicates` and `secrets` apply.
    """
    left, held = list(rows), list[Held]()
    for name, one in filters:
        found = one(left)
        exempt = name not in ("unfit", "duplicates", "secrets")
        passed = []
        for row in left:
            why = found.get(row.feedback_id)
            if why is None or (exempt and row.is_review):
                passed.append(row)
            else:
                held.append(Held(row, name, why))
        left = passed
    return left, held


def unfit(rows: Sequence[Row]) -> dict[str, str]:
    """Hold votes without anything to learn."""
    found = {}
    for row in rows:
        if not row.question.strip() or (not row.answer.strip() and not row.better):
            found[row.feedback_id] = "question or answer is empty"
        elif any(one.role == "tool" for one in row.messages):
            found[row.feedback_id] = "a tool was called in the conversation"
        elif not row.rating and not row.better:
            found[row.feedback_id] = "only tags were given"
        elif row.better and plain(row.better) == plain(row.answer):
            found[row.feedback_id] = "the correction is the answer"
    return found


def duplicates(rows: Sequence[Row]) -> dict[str, str]:
    """Keep only the newest vote of a person on a question."""
    newest: dict[tuple[str, str], Row] = {}
    found = {}
    for row in sorted(rows, key=lambda one: (one.created_ms, one.feedback_id)):
        key = (row.person, row.digest or plain(row.question))
        if key in newest:
            found[newest[key].feedback_id] = "the same person voted again on the same question"
        newest[key] = row
    return found


def secrets(rows: Sequence[Row]) -> dict[str, str]:
    """Hold corrections that add what looks like a key or a personal number: it would appear in other people's
    answers.
    """
    found = {}
    for row in rows:
        known = f"{row.question}\n{row.answer}"
        for token in secret_like(row.better):
            if token not in known:
                found[row.feedback_id] = "the correction brings something like a key or a password"
        if set(_PLACEHOLDER.findall(row.better)) - set(_PLACEHOLDER.findall(known)):
            found[row.feedback_id] = "the correction brings personal data, which was masked"
    return found


def bursts(rows: Sequence[Row]) -> dict[str, str]:
    """Hold all votes of a person who repeatedly voted faster than anyone can read the answers."""
    by_person = defaultdict(list)
    for row in rows:
        by_person[row.person].append(row)
    found = {}
    for votes in by_person.values():
        votes.sort(key=lambda one: one.created_ms)
        fast = sum(
            (later.created_ms - earlier.created_ms) / 1000 < max(0.5, later.num_tokens / READ_TOK_PER_S)
            for earlier, later in pairwise(votes)
        )
        if fast >= BURST and fast * 2 > len(votes):
            why = f"{fast} of {len(votes)} votes came faster than the answers can be read"
            found.update({one.feedback_id: why for one in votes})
    return found


def contradictions(rows: Sequence[Row]) -> dict[str, str]:
    """Hold votes that most other people contradict, and all of them if there is no majority."""
    by_question = defaultdict(list)
    for row in rows:
        by_question[row.digest or plain(row.question)].append(row)
    found = {}
    for votes in by_question.values():
        sides: dict[str, set[str]] = defaultdict(set)
        for row in votes:
            sides[wanted(row)].add(row.person)
        if len(sides) < 2:
            continue
        ranked = sorted(sides.values(), key=len, reverse=True)
        ahead = len(ranked[0]) > len(ranked[1])
        for row in votes:
            if not ahead or sides[wanted(row)] is not ranked[0]:
                found[row.feedback_id] = f"{len(votes)} votes on this question contradict each other"
    return found


def distrust(reference: Mapping[str, str]) -> Filter:
    """Return the filter that holds all votes of people who are wrong too often where the right answer is known.

    Args:
        reference: Answers that are known to be right (canaries), by the plain text of the question.
    """

    def find(rows: Sequence[Row]) -> dict[str, str]:
        right: Counter[str] = Counter()
        wrong: Counter[str] = Counter()
        for row in rows:
            known = reference.get(plain(row.question))
            if known is not None:
                (right if agrees(row, known) else wrong)[row.person] += 1
        bad = {
            person: f"{wrong[person]} of {wrong[person] + right[person]} votes on known answers are wrong"
            for person in wrong
            if beta_below(TRUST, 1 + right[person], 1 + wrong[person]) > SURE
        }
        return {row.feedback_id: bad[row.person] for row in rows if row.person in bad}

    return find


def focus(rows: Sequence[Row]) -> dict[str, str]:
    """Hold all votes of people whose votes cluster where those of others do not."""
    of_person: dict[str, Counter[str]] = defaultdict(Counter)
    count: Counter[str] = Counter()
    votes: Counter[str] = Counter()
    for row in rows:
        votes[row.person] += 1
        for mark in marks(row):
            of_person[row.person][mark] += 1
            count[mark] += 1
    bad = {}
    for person, found in of_person.items():
        own, others = votes[person], len(rows) - votes[person]
        if own < FEWEST or others < FEWEST:
            continue
        for mark, times in found.items():
            rate = (count[mark] - times + 1) / (others + 1)
            if times >= FEWEST and poisson_tail(times, own * rate) < TAIL:
                bad[person] = f"{times} of {own} votes crowd in one place, {rate:.1%} of those of others do"
                break
    return {row.feedback_id: bad[row.person] for row in rows if row.person in bad}


def shift(past: Sequence[Row]) -> Filter:
    """Return the filter that holds votes of a kind that is far more frequent than before."""
    before = Counter(mark for row in past for mark in marks(row))

    def find(rows: Sequence[Row]) -> dict[str, str]:
        if len(past) < PAST:
            return {}
        now = Counter(mark for row in rows for mark in marks(row))
        scale = len(rows) / len(past)
        bad = {
            mark
            for mark, times in now.items()
            if times >= FEWEST and poisson_tail(times, (before[mark] + 2) * scale) < TAIL
        }
        return {
            row.feedback_id: "far more votes of this kind than in the time before"
            for row in rows
            if not bad.isdisjoint(marks(row))
        }

    return find


def disagreement(rows: Sequence[Row]) -> dict[str, str]:
    """Hold all votes of people whose corrections disagree with those of all others on similar questions.

    The reference is a naive Bayes over the words of a question, trained on the other people's votes only. It is weak
    but sufficient, because a person is judged by all corrections together. It applies only where answers are short and
    recur.
    """
    said = [(row, kind_of(row.better)) for row in rows if row.better]
    said += [(row, kind_of(row.answer)) for row in rows if not row.better and row.rating == "up"]
    usual = {kind for kind, times in Counter(kind for _, kind in said).items() if times >= USUAL}
    said = [(row, kind) for row, kind in said if kind in usual]
    if not 2 <= len(usual) <= MOST_KINDS or len(said) < PAST:
        return {}
    model = _Bayes()
    for row, kind in said:
        model.add(row, kind, 1)
    likely: dict[str, list[bool]] = defaultdict(list)
    by_person = defaultdict(list)
    for row, kind in said:
        by_person[row.person].append((row, kind))
    for person, own in by_person.items():
        for row, kind in own:
            model.add(row, kind, -1)
        likely[person] = [model.prefers(row, kind) for row, kind in own if row.better]
        for row, kind in own:
            model.add(row, kind, 1)
    yes, all_of = sum(map(sum, likely.values())), sum(map(len, likely.values()))
    bad = {}
    for person, found in likely.items():
        others = (yes - sum(found) + 1) / (all_of - len(found) + 2)
        if len(found) >= FEWEST and binomial_below(sum(found), len(found), others) < DISAGREES:
            bad[person] = f"{sum(found)} of {len(found)} corrections agree with those of others, who do in {others:.0%}"
    return {row.feedback_id: bad[row.person] for row in rows if row.person in bad}


class _Bayes:
    """Word counts by kind of answer, which can be subtracted again."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._words: dict[str, Counter[str]] = defaultdict(Counter)
        self._sums: Counter[str] = Counter()
        self._known: Counter[str] = Counter()

    def add(self, row: Row, kind: str, times: int) -> None:
        words = words_of(row)
        self._kinds[kind] += times
        self._sums[kind] += times * len(words)
        for word in words:
            self._words[kind][word] += times
            self._known[word] += times

    def prefers(self, row: Row, kind: str) -> bool:
        """Return whether a kind is likelier than most others, and than the model's answer."""
        words = words_of(row)
        size = len(self._known)
        scores = {
            one: math.log(count + 1)
            + sum(math.log((self._words[one][word] + 0.1) / (self._sums[one] + 0.1 * size)) for word in words)
            for one, count in self._kinds.items()
        }
        ahead = sum(score > scores[kind] for score in scores.values()) if kind in scores else len(scores)
        return ahead * 4 < len(scores) and scores[kind] >= scores.get(kind_of(row.answer), -math.inf)


def caps(*, share: float, least: int) -> Filter:
    """Return the filter that holds votes beyond a person's share, if that is more than `least`."""

    def find(rows: Sequence[Row]) -> dict[str, str]:
        allowed = max(least, math.ceil(share * len(rows)))
        seen: Counter[str] = Counter()
        found = {}
        for row in sorted(rows, key=lambda one: (-bool(one.better), -one.created_ms, one.feedback_id)):
            seen[row.person] += 1
            if seen[row.person] > allowed:
                found[row.feedback_id] = f"one person gives at most {allowed} examples"
        return found

    return find


def source_cap(share: float) -> Filter:
    """Return the filter that holds votes beyond a tenant's share, if there are several tenants."""

    def find(rows: Sequence[Row]) -> dict[str, str]:
        count = Counter(row.tenant for row in rows)
        if len(count) < 2:
            return {}
        others = {tenant: len(rows) - number for tenant, number in count.items()}
        found, seen = {}, Counter[str]()
        for row in sorted(rows, key=lambda one: (-bool(one.better), -one.created_ms, one.feedback_id)):
            seen[row.tenant] += 1
            allowed = max(FEWEST, int(others[row.tenant] * share / (1 - share)))
            if seen[row.tenant] > allowed:
                found[row.feedback_id] = f"one tenant gives at most {share:.0%} of the examples"
        return found

    return find


def marks(row: Row) -> frozenset[str]:
    """Return the features of a vote: which change it makes, its answer, and on which word."""
    said = kind_of(row.answer)
    if not row.better:
        return frozenset((f"{row.rating}: {said}",))
    to = kind_of(row.better)
    return frozenset((f"{said} -> {to}", f"-> {to}", *(f"{word} ~> {to}" for word in words_of(row))))


def words_of(row: Row) -> frozenset[str]:
    """Return the words of a question."""
    return words_in(row.question)


def words_in(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(word.lower() for word in _WORD.findall(text)[:MOST_WORDS])


def kind_of(text: str) -> str:
    """Return the slice that an answer belongs to: all of a short one, the first words of a longer one."""
    words = plain(text).split()
    return " ".join(words if len(words) <= SHORT_WORDS else words[:BEGINNING_WORDS])


def wanted(row: Row) -> str:
    """Return the answer that a vote asks for, normalised for comparison."""
    if row.better:
        return plain(row.better)
    return plain(row.answer) if row.rating == "up" else f"not {plain(row.answer)}"


def agrees(row: Row, known: str) -> bool:
    """Return whether a vote agrees with the right answer."""
    if row.better:
        return plain(row.better) == plain(known)
    return (plain(row.answer) == plain(known)) == (row.rating == "up")


def secret_like(text: str) -> list[str]:
    """Return the parts of a text that look like keys, passwords or serial numbers: words with letters and digits that
    are in no language.
    """
    found = []
    for token in _TOKEN.findall(text):
        token = token.strip(".-=/+_")
        digits = sum(one.isdigit() for one in token)
        letters = sum(one.isalpha() for one in token)
        if (
            not _DATE.fullmatch(token)
            and len(token) >= 8
            and digits >= 3
            and (letters >= 2 or digits >= 8)
            and len(set(token)) >= 5
        ):
            found.append(token)
    return found


def plain(text: str) -> str:
    """Return a text normalised: lower case, single spaces, no marks at its edges."""
    return " ".join(text.lower().split()).strip(" .,;:!?\"'。，；：！？")


def poisson_tail(times: int, mean: float) -> float:
    """Return the probability of `times` or more events where `mean` are expected. However many: people decide that."""
    from scipy.special import gammainc

    return 1.0 if times <= 0 else float(gammainc(times, mean))


def binomial_below(times: int, of: int, share: float) -> float:
    """Return the probability of `times` or fewer out of `of`, where each has the probability `share`."""
    from scipy.special import bdtr

    return float(bdtr(times, of, share))


def beta_below(limit: float, a: int, b: int) -> float:
    """Return the probability that a share is below `limit`, after `a` - 1 successes and `b` - 1 failures."""
    from scipy.special import betainc

    return float(betainc(a, b, limit))
