# ruff: noqa: E501 (patterns and word lists stay on one line)
"""English questions: the frame around them, what is asked for, and the words that carry meaning."""

from __future__ import annotations

import re
from dataclasses import replace

from ashore.cache.semantic.englishframes import KINDS, POLITE_END, POLITE_START, REWRITES, Frame
from ashore.cache.semantic.facts import facts_in
from ashore.cache.semantic.lexicon import english_forms, english_groups, english_words
from ashore.cache.semantic.model import Reading, Word
from ashore.cache.semantic.wordset import words_of

_ORDINAL = {"first": 1, "second": 2, "third": 3, "fourth": 4, "1st": 1, "2nd": 2, "3rd": 3, "4th": 4}
_QUARTER = re.compile(r"⟦#code q([1-4])⟧|\b(first|second|third|fourth) quarter\b", re.I)
_TOKEN = re.compile(r"⟦#[^⟧]*⟧|'s\b|[a-zà-ÿ]+(?:[-'.&/][a-zà-ÿ]+)*|[,;:+*/=<>&]|\d+")
_CONTRACTIONS = (
    (r"\bwon't\b", "will not"),
    (r"\b(?:can't|cannot|can't)\b", "can not"),
    (r"\bain't\b", "is not"),
    (r"\b(what|where|who|how|when|that|there|here)s\b(?=[ ,])", r"\1 is"),
    (r"\bcant\b", "can not"),
    (r"\bwont\b", "will not"),
    (r"\bim\b", "i am"),
    (r"\bive\b", "i have"),
    (r"\bu\b(?= (?:can|could|tell|know|please|have|need))", "you"),
    (r"\br\b(?= (?:the|there|my|we|you))", "are"),
    (r"\b(?:plz|pleas|pls|plse)\b", "please"),
    (r"\bthru\b", "through"),
    (r"\b(how|what|where|when|who)'re\b", r"\1 are"),
    (r"\b(how|what|where|when|who|why)'d\b", r"\1 did"),
    (r"\b(what|who|where|when|how|that|it|there|here)'s\b", r"\1 is"),
    (r"n't\b", " not"),
    (r"\b(do|does|did|is|are|was|were|could|would|should|has|have|had)nt\b", r"\1 not"),
    (r"'(?:re)\b", " are"),
    (r"'ve\b", " have"),
    (r"'ll\b", " will"),
    (r"\bi'd\b", "i would"),
    (r"'d\b", " would"),
    (r"\bi'm\b", "i am"),
    (r"(?<=s)'(?=\s)", " "),
    (r"'s\b", " 's "),
    (r"\bgonna\b", "going to"),
    (r"\bwanna\b", "want to"),
)
_ACRONYMS = ((r"\bUS\b", "usa"), (r"\bU\.S\.(?:A\.)?", "usa"), (r"\bU\.K\.", "uk"), (r"\bIT\b", "it_department"))
_NEGATIONS = words_of("not no never without none nobody nothing neither nor cannot hardly barely non")
_AUXILIARIES = words_of(
    "do does did is are was were am be been being has have had can could will would shall may might "
    "should must"
)  # fmt: skip
_MODALS = words_of("maydo mustdo shoulddo")
_DROPPED = (
    words_of(
        "a an the of is are was were am be been being do does did has have had having that this these those "
        "there it its which what who whom when where how why so also please just really actually exactly "
        "currently now kindly simply basically specifically generally possibly maybe perhaps properly "
        "correctly successfully quickly easily anyway here then as well own certain specific particular i me "
        "someone somebody anyone anybody my we us our you your myself ourselves mine ours would will shall can could may might should "
        "going get got getting 's if to and or such very too even still available possible go in on at for "
        "with about by from into onto via per through over under during concerning regarding"
    )
    | _AUXILIARIES
    | _MODALS
)
_ROLES = words_of(
    "from to into onto by than before after with without in on at for of about over under above below "
    "between against since until during via through per toward towards outside inside off up down like as"
)  # fmt: skip
_FUNCTION = (
    _ROLES | _AUXILIARIES | _MODALS | words_of("of 's a an the i me my we our you your he his she her they their")
)
_LASTING = words_of("of in on at for with from to by")
_BEFORE_NOUN = words_of("a an the my our your")
_WORK_OF = re.compile(r"\b(?:inventor|founder|author|writer|creator|discoverer|composer|painter|designer)_does\b")
"""Who is the author of a work is who wrote it."""
_FRESH = words_of("do does did")
_OF_TIME = frozenset({"in", "on", "at"})
"""Where these have had their noun, what follows an auxiliary is the subject: `in the morning does the shop open`. The
words of a direction stay: `from where does the bus go`."""
_ENDS = frozenset({"up", "down", "off", "above", "below", "before", "after", "over", "under"})
"""Say which way even where no noun follows: `scroll up`."""
_KEYWORDS = "WHERE|HAVING|WITH|FROM|AND|OR|NOT|IN|ON|BY|TO|AS|IS|ALL|ANY|IF|DO|FOR|WHO|CAN|MAY|HAS|ARE"
_ASKS = r"(?:how|what|which|who|whom|when|where|why|is|are|can|could|may|must|should|do|does|did|will)\b"
_FRONTED = re.compile(
    r"^((?:in case of|because of|in|on|at|for|with|without|during|after|before|when|while|if|to|under|within|from|as|near|by|through|towards|about|between|against|across) [^,]{2,60}), ?("
    + _ASKS
    + r".+)$"
)
_TOPIC = re.compile(
    r"^([^,.:;-]{3,60}) ?(?: - |:|;|,) ?((?:how|when|where|why) (?:do|can|should|is|are) .+?) (?:it|this|that|them)( .*)?$"
)
_TOPIC_OF_WHO = re.compile(
    r"^([^,.:;-]{3,60}) ?(?: - |:|;) ?(who(?: (?:do|does|can|may|must|should|has to|have to))? \w+)(?: (?:it|this|that|them|for it))?$"
)
"""`leaking roof - who repairs it`: the person after it is the topic."""
_OBJECTS = words_of("me us you him her them")
_PERSONS = {
    "you": "you", "your": "you", "yours": "you", "yourself": "you", "he": "he", "him": "he", "his": "he", "she": "she",
    "her": "she", "hers": "she", "they": "they", "them": "they", "their": "they",
}  # fmt: skip
_PAST = frozenset(["did", "was", "were", "had", "used"])
_GET = words_of("get receive have obtain")
_HAVING = {
    "how-many": _GET | {"exist", "take", "include", "contain", "be", "need"},
    "how": _GET,
    "how-much": _GET,
    "what": _GET | {"exist", "contain", "include", "mustdo", "need", "require"},
    "where": _GET | {"find", "locate"},
    "how-long": _GET | {"take", "last", "need"},
    "yes-no": _GET,
    "when": frozenset({"happen", "take place", "occur", "be held"}),
    "what-time": frozenset({"happen", "take place", "occur", "be held"}),
    "what-date": frozenset({"happen", "take place", "occur", "be held"}),
}
"""Verbs that say nothing beside a question of this kind."""
_SYMMETRIC = re.compile(
    r"\b(difference|differences|differ|compare|compared|comparison|between|versus|vs|same|similar|better|or)\b"
)


_EXEMPT = re.compile(r"\b(?:not (?:have to|need|required|obliged|obligated|necessary|mandatory|compulsory)|need not)\b")
_STANCES = {
    "can": re.compile(
        r"\b(?:can|could|may|might|allowed|permitted|possible|permissible|acceptable|(?:entitled|able|gets?) to)\b"
    ),
    "must": re.compile(r"\b(?:must|ha(?:ve|s) to|(?:required|obliged|obligated) to|needs? to|mandatory|compulsory)\b"),
    "should": re.compile(r"\b(?:should|ought to|(?:supposed|expected|meant) to)\b"),
    "advise": re.compile(r"\b(?:recommended|advised|advisable|suggested)\b"),
    "want": re.compile(r"\b(?:wants?|wish(?:es)?|hopes?|plans?|intends?|likes?) to\b"),
}


def _stance(whole: str) -> frozenset[str]:
    """Return what the question says of may, must and should; who need not is another than who must not."""
    text = _EXEMPT.sub(" ", whole)
    found = {name for name, pattern in _STANCES.items() if pattern.search(text)}
    return frozenset(found | {"exempt"} if text != whole else found)


def read_english(marked: str) -> Reading:
    """Read a question whose facts are marked."""
    for pattern, word in _ACRONYMS:
        marked = re.sub(pattern, word, marked)
    marked = _kept_as_written(marked)
    marked = _QUARTER.sub(lambda m: f"⟦#quarter {m[1] or _ORDINAL[m[2].lower()]}⟧ ", marked)
    names = _plural_names(marked)
    marked = re.sub(r"\b(?:[Nn]umber|[Nn]o|[Nn]r|[Nn]um)\.? *(?=⟦#\d)", "", marked)
    whole = " " + _lowered(marked) + " "
    for pattern, spelled in _CONTRACTIONS:
        whole = re.sub(pattern, spelled, whole)
    whole = _spaced(re.sub(r"[^\w\s⟦⟧#'.&/,;:+*=<>$%°-]", " ", whole))
    whole = _stripped(_turned(_stripped(_turned(whole))))
    text, frame, modal = _framed(whole)
    for pattern, spelled in REWRITES:
        text = re.sub(pattern, spelled, text)
    tokens = _split_hyphens(_TOKEN.findall(text))
    passive = bool(_PASSIVE.search(whole)) and _is_passive(_NOT_DONE.sub(" ", whole).split())
    modals = frozenset({modal} if modal else ()) | _modals(tokens, frame)
    persons = frozenset(_PERSONS[t] for t in tokens if t in _PERSONS)
    if frame in ("how", "what-to-do"):
        persons -= {"you"}
    words = _words(tokens, frame, names)
    active = _active(words, passive)
    passive, words = passive and active == words, active
    kind, words = _attribute(frame, words)
    return Reading(
        language="en",
        kind=kind,
        words=words,
        passive=passive,
        facts=facts_in(marked),
        modals=modals,
        stance=frozenset()
        if frame in ("how", "what-to-do", "consequence") and _OURSELVES & set(whole.split())
        else _stance(whole),
        tense="past" if _WORK_OF.search(text) else _tense(whole, tokens, frame),
        persons=persons,
        symmetric=bool(_SYMMETRIC.search(whole)),
        bare=bool(tokens) and not any(t in _FUNCTION for t in tokens),
    )


_NOT_DONE = re.compile(
    r"\b(?:allowed|permitted|required|supposed|entitled|needed|called|located|interested|obliged|used|located|situated)\b"
)
_PASSIVE = re.compile(r"\b(?:is|are|was|were|be|been|being|get|gets|got)\b")
_BE = words_of("is are was were be been being get gets got")
_ATTRIBUTES = {
    "height": "how-high", "price": "how-much", "cost": "how-much", "fee": "how-much", "age": "how-old", "distance": "how-far",
    "depth": "how-deep", "weight": "how-heavy", "speed": "how-fast", "frequency": "how-often", "duration": "how-long",
    "location": "where", "population": "population", "meaning": "what", "definition": "what", "difference": "differ",
    "deadline": "when", "period": "how-long", "temperature": "how-hot", "size": "how-big",
}  # fmt: skip
_MEASURES = frozenset({"how-long", "how-much", "how-far", "how-high", "how-old"})


def _is_perfect(words: list[str]) -> bool:
    """Tell whether `has` or `have` is followed within three words by a participle."""
    return any(
        word in ("has", "have")
        and words[at + 1 : at + 2] != ["to"]
        and any(base_form(after)[1] in ("p", "d") for after in words[at + 1 : at + 4])
        for at, word in enumerate(words)
    )


def _is_passive(words: list[str]) -> bool:
    """Tell whether a form of `be` is followed, at most five words on, by a participle."""
    for at, word in enumerate(words):
        if word in _BE:
            for after in words[at + 1 : at + 6]:
                base, kind = base_form(after)
                if kind in ("p", "d") and "v" in getattr(english_words().get(base), "parts", "v"):
                    return True
    return False


def _active(words: tuple[Word, ...], passive: bool) -> tuple[Word, ...]:
    """Put `water damage covered by the warranty` in the order of `the warranty covers water damage`."""
    agents = [at for at, w in enumerate(words) if w.role == "by"]
    if not passive or not agents:
        return words
    start = agents[0]
    stop = start
    while stop < len(words) and words[stop].role == "by":
        stop += 1
    agent = tuple(replace(w, role="") for w in words[start:stop])
    rest = words[:start]
    verbs = [at for at, w in enumerate(rest) if w.verb]
    if not verbs:
        return words
    verb = verbs[-1]
    return (*agent, rest[verb], *rest[:verb], *rest[verb + 1 :], *words[stop:])


def _attribute(kind: str, words: tuple[Word, ...]) -> tuple[str, tuple[Word, ...]]:
    """Read `what is the height of X` and `X's height` as `how high is X`."""
    if kind not in ("what", "", "when", *_MEASURES):
        return kind, words
    for at, word in enumerate(words):
        of_kind = _ATTRIBUTES.get(word.text)
        if of_kind and not word.role and not word.negated and len(words) > 1:
            if kind in ("what", "") and at in (0, len(words) - 1, _core(words) - 1):
                return of_kind if word.text != "deadline" else "when", words if word.text == "deadline" else words[
                    :at
                ] + words[at + 1 :]
            if kind == of_kind and kind in _MEASURES:
                return kind, words[:at] + words[at + 1 :]
    return kind, words


def _core(words: tuple[Word, ...]) -> int:
    """Return how many words stand before the first that has a direction."""
    return next((at for at, w in enumerate(words) if w.role), len(words))


def _split_hyphens(tokens: list[str]) -> list[str]:
    known = english_groups().meanings
    out: list[str] = []
    for token in tokens:
        whole = "-" not in token or token.startswith("⟦") or token in known
        out += [token] if whole else [t for t in token.split("-") if t]
    return out


def base_form(token: str) -> tuple[str, str]:
    """Return the base form and what the ending tells: `p` past or participle, `g` -ing, `n` plural, or nothing."""
    if token.startswith("⟦"):
        return token[1:-1], ""
    forms, words = english_forms(), english_words()
    if token in forms:
        return forms[token]
    token = _american(token)
    if token in english_groups().meanings and not token.endswith(("ed", "ing")):
        return token, ""
    for ending, replacements, kind in _ENDINGS:
        if not token.endswith(ending) or len(token) - len(ending) < (3 if kind in "pg" else 2):
            continue
        stem = token[: -len(ending)]
        for replacement in replacements:
            if stem + replacement in words and (kind != "g" or "v" in words[stem + replacement].parts):
                return stem + replacement, kind
        if kind in "pg" and len(stem) > 2 and stem[-1] == stem[-2] and stem[:-1] in words:
            return stem[:-1], kind
    if token.endswith("ly") and token not in _NOT_ADVERBS and "a" in getattr(words.get(token[:-2]), "parts", ""):
        return token[:-2], ""
    if token in words:
        return token, ""
    if token.endswith("s") and not token.endswith(("ss", "us", "is")) and len(token) > 3:
        return token[:-1], "n"
    return token, ""


def _american(token: str) -> str:
    for pattern, spelled in _BRITISH:
        changed = re.sub(pattern, spelled, token)
        if changed != token:
            return changed
    return token


_BRITISH = (
    (r"^(kilo|milli|centi)?(lit|met)re(s?)$", r"\1\2er\3"),
    (r"^(cent|theat|fib|calib)re(s?)$", r"\1er\2"),
    (r"^(col|fav|hon|lab|neighb|behavi|flav|rum|harb|hum)our", r"\1or"),
    (r"^(.{3,})(?<!exerc)(?<!prom)(?<!adv)(?<!surpr)(?<!superv)(?<!rev)ise(d|s|r)?$", r"\1ize\2"),
    (r"^(.{3,})isation(s?)$", r"\1ization\2"),
    (r"^(.{3,})yse(d|s|r)?$", r"\1yze\2"),
    (r"^programme(s?)$", r"program\1"),
    (r"^licence(s?)$", r"license\1"),
    (r"^tyre(s?)$", r"tire\1"),
    (r"^cheque(s?)$", r"check\1"),
    (r"^grey$", "gray"),
)
_NOT_ADVERBS = words_of(
    "hardly lately nearly shortly highly mostly barely scarcely likely lively fairly justly presently"
)
"""Words in `-ly` that do not say what their adjective says."""
_ENDINGS = (
    ("ies", ("y",), "n"),
    ("es", ("e", ""), "n"),
    ("s", ("",), "n"),
    ("ied", ("y",), "p"),
    ("ed", ("e", ""), "p"),
    ("ing", ("e", ""), "g"),
)


def _kept_as_written(marked: str) -> str:
    """Mark what must not be read as a common word: `WHERE`, a lone `A`."""
    if not re.search(r"[a-z]", marked):
        return marked
    marked = re.sub(r"(?<=[a-z] )A(?=[ ,.?!]|$)", "⟦#letter a⟧", marked)
    return re.sub(rf"(?<![⟦#\w-])({_KEYWORDS})(?![\w-])", lambda m: f"⟦#word {m[1].lower()}⟧", marked)


def _plural_names(marked: str) -> frozenset[str]:
    """Return the capitalised words in the middle of a sentence that end in `s`: `Aliens` is not `Alien`."""
    found = re.findall(r"(?<=[a-z] )([A-Z][a-z]{2,}s)(?=[ ,.?!]|$)", marked)
    return frozenset(f.lower() for f in found if not f.endswith("days"))


def _lowered(marked: str) -> str:
    return re.sub(r"⟦[^⟧]*⟧|[^⟦]+", lambda m: m.group() if m.group().startswith("⟦") else m.group().lower(), marked)


def _spaced(text: str) -> str:
    text = re.sub(r"[.]+(?=\s|$)", " . ", text)
    return re.sub(r"\s+", " ", text).strip()


def _stripped(text: str) -> str:
    before = None
    while text != before:
        before = text
        text = POLITE_START.sub("", text).strip(" ,.;:-")
        text = POLITE_END.sub("", text).strip(" ,.;:-")
    return text or (before or "")


def _turned(text: str) -> str:
    """Put the question first: `in Outlook, how do I sort` and `the sensor: how do I read it` as people usually ask."""
    fronted = _FRONTED.match(text)
    if fronted:
        return f"{fronted[2]} {fronted[1]}"
    of_who = _TOPIC_OF_WHO.match(text)
    if of_who:
        return f"{of_who[2]} {of_who[1]}"
    topic = _TOPIC.match(text)
    return f"{topic[2]} {topic[1]}{topic[3] or ''}" if topic else text


def _framed(text: str) -> tuple[str, str, str]:
    for frame in KINDS:
        match = frame.pattern.search(text)
        if match:
            return _stripped_frame(text, match, frame), frame.kind, frame.modal
    return text, "", ""


def _stripped_frame(text: str, match: re.Match[str], frame: Frame) -> str:
    return f"{text[: match.start()]} {match.expand(frame.leaves)} {text[match.end() :]}".strip()


_OF_ANYBODY = frozenset({"how", "what-to-do", "how-long", "how-often", "how-much", "why", "consequence"})
_OURSELVES = words_of("i we you one")
"""`What can I do` asks what there is to do; `who can approve it` asks who may."""


def _modals(tokens: list[str], kind: str) -> frozenset[str]:
    found = set()
    for token in tokens:
        if token in ("can", "could", "may", "might", "maydo"):
            found.add("can")
        elif token == "mustdo":
            found.add("must")
        elif token == "shoulddo":
            found.add("should")
    if kind != "yes-no" and (kind in _OF_ANYBODY or (kind in ("where", "") and _OURSELVES & set(tokens))):
        found.discard("can")
    if kind in ("who", "whom", "where") and ("i" in tokens or "we" in tokens):
        found.discard("should")
    if kind in ("how", "what-to-do", "how-long", "how-often"):
        found.clear()
    return frozenset(found)


def _tense(whole: str, tokens: list[str], kind: str) -> str:
    words = whole.split()
    if any(w in _PAST for w in words) and not re.search(r"\bused to\b.*\bto\b|\b(be|is|are) used\b", whole):
        return "past"
    if kind in ("when", "what-date", "what-time", "how-long", "what-to-do", "how-much"):
        return "present"
    if "will" in words or "shall" in words or re.search(r"\b(?:going|about|due) to\b", whole):
        return "future"
    if kind != "how" and _is_perfect(words):
        return "perfect"
    if kind in ("who", "what", "which", "how-many") and not any(w in _AUXILIARIES for w in words):
        for token in tokens:
            if base_form(token)[1] == "p" and not token.startswith("⟦"):
                return "past"
    return "present"


def _words(tokens: list[str], kind: str, names: frozenset[str]) -> tuple[Word, ...]:
    groups, known = english_groups(), english_words()
    bases = [(t, "") if t in names else base_form(t) for t in tokens]
    out: list[Word] = []
    chunk_start, role, negated = 0, "", False
    of_at: int | None = None
    place = chunk = 0
    while place < len(tokens):
        length, text, meanings = _phrase(tokens, bases, place)
        token = tokens[place]
        chunk += length == 1 and (token in _ROLES or token in ("of", "'s", ","))
        if length == 1 and token == "of" and out and out[-1].role != "by":
            of_at, place = chunk_start, place + 1
            chunk_of = len(out)
            role = role if role else "of"
            continue
        if length == 1 and token in (",", ";", ":", "."):
            out, of_at = _genitive(out, of_at, chunk_of if of_at is not None else 0, kind)
            chunk_start, role, place = len(out), "", place + 1
            continue
        if length == 1 and token in _NEGATIONS:
            negated = True
            if token == "without":
                role = ""
            place += 1
            continue
        is_role = length == 1 and token in _ROLES
        if is_role:
            out, of_at = _genitive(out, of_at, chunk_of if of_at is not None else 0, kind)
            chunk_start = len(out)
            infinitive = token == "to" and place + 1 < len(tokens) and _is_verb(bases[place + 1][0])
            role = "" if infinitive else token
            place += 1
            continue
        governed = role in ("from", "to", "by") and token in _OBJECTS and tokens[place - 1] in _ROLES
        if length == 1 and token in _DROPPED and not governed and (token not in groups.meanings or token in _MODALS):
            if token in _FRESH and role in _OF_TIME and out and out[-1].role == role:
                role = ""
            if token in _AUXILIARIES:
                out, of_at = _genitive(out, of_at, chunk_of if of_at is not None else 0, kind)
                chunk_start = len(out)
            place += 1
            continue
        if length == 1 and token in _PERSONS and not governed:
            place += 1
            continue
        base = bases[place][0] if length == 1 else text
        info = known.get(base)
        negative = _negative_prefix(base) if info else None
        if negative:
            base, negated, info = negative, not negated, known.get(negative)
            meanings = groups.meanings.get(base, frozenset())
        out.append(
            Word(
                text=base,
                meanings=meanings,
                role="" if role == "of" else role,
                negated=negated,
                chunk=chunk,
                verb=_may_be_verb(base) and (not place or tokens[place - 1] not in _BEFORE_NOUN)
                if length == 1
                else _is_verb(base.split()[0]),
                parts=_parts(bases[place : place + length], tokens[place : place + length], role, chunk),
            )
        )
        role, negated = (role if role in _LASTING else ""), False
        place += length
    out, of_at = _genitive(out, of_at, chunk_of if of_at is not None else 0, kind)
    if negated:
        out.append(Word(text="not", negated=True))
    if tokens and role == tokens[-1] and role in _ENDS:
        out.append(Word(text=role, chunk=chunk))
    out = _merged(out)
    for at in range(len(out) - 1):
        if out[at].role == "from" and out[at + 1].role == "to":
            out[at] = replace(out[at], role="")
    idle = _HAVING.get(kind, frozenset())
    if len(out) > 1:
        out = [w for w in out if w.text not in idle or w.negated] or out
    return tuple(out)


def _genitive(out: list[Word], of_at: int | None, middle: int, kind: str) -> tuple[list[Word], None]:
    """Put `capital of France` in the order of `France's capital`."""
    if of_at is None or middle >= len(out) or middle <= of_at:
        return out, None
    if kind in _DOING and middle - of_at > 1 and out[of_at].verb:
        of_at += 1
    head, owner = out[of_at:middle], out[middle:]
    return out[:of_at] + owner + head, None


_DOING = frozenset({"how", "what-to-do"})
"""Kinds in which the first word is what is done: in `check the balance of the account` the account owns the balance alone."""


def _may_be_verb(base: str) -> bool:
    info = english_words().get(base)
    return bool(info and ("v" in info.parts or info.verbs))


def _parts(bases: list[tuple[str, str]], tokens: list[str], role: str, chunk: int) -> tuple[Word, ...]:
    if len(bases) < 2 or any(t in _DROPPED or t in _ROLES or t in _NEGATIONS for t in tokens):
        return ()
    groups = english_groups().meanings
    return tuple(
        Word(
            text=base,
            meanings=groups.get(base, frozenset()),
            role="" if role == "of" else role,
            chunk=chunk,
            verb=_may_be_verb(base),
        )
        for base, _ in bases
    )


def _merged(words: list[Word]) -> list[Word]:
    """Join what became neighbours: `balance of my account` is an `account balance`."""
    groups = english_groups()
    out: list[Word] = []
    place = 0
    while place < len(words):
        first = words[place]
        for length in range(min(groups.lengths.get(first.text, 1), len(words) - place), 1, -1):
            span = words[place : place + length]
            text = " ".join(w.text for w in span)
            if text in groups.meanings and not any(w.negated or w.role != first.role for w in span):
                out.append(replace(first, text=text, meanings=groups.meanings[text], parts=tuple(span)))
                place += length
                break
        else:
            out.append(first)
            place += 1
    return out


def _phrase(tokens: list[str], bases: list[tuple[str, str]], place: int) -> tuple[int, str, frozenset[int]]:
    groups = english_groups()
    most = groups.lengths.get(tokens[place], 1)
    if bases[place][0] != tokens[place]:
        most = max(most, groups.lengths.get(bases[place][0], 1))
    for length in range(min(most, len(tokens) - place), 0, -1):
        span = range(place, place + length)
        raw, base = [tokens[i] for i in span], [bases[i][0] for i in span]
        for text in (" ".join(raw), " ".join(base), " ".join([*raw[:-1], base[-1]]), " ".join([base[0], *raw[1:]])):
            if text in groups.meanings:
                return length, text, groups.meanings[text]
    return 1, tokens[place], frozenset()


def _is_verb(base: str) -> bool:
    info = english_words().get(base)
    return bool(info and "v" in info.parts)


def _negative_prefix(base: str) -> str | None:
    known = english_words()
    for prefix in ("un", "in", "im", "il", "ir", "non"):
        rest = base[len(prefix) :]
        if base.startswith(prefix) and len(rest) > 3 and rest in known[base].antonyms:
            return rest
    return None
