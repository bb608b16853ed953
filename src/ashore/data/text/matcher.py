"""Finds words in streamed text, holding back only what may still become one of them.

An Aho-Corasick automaton (Aho and Corasick, "Efficient string matching", CACM 18(6), 1975). The first word that is
complete wins, whatever the pieces were; of two that end together, the longer one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class Words:
    """The automaton of a set of words. Immutable, so that many answers share one."""

    __slots__ = ("depth", "fail", "firsts", "goto", "word")

    def __init__(self, words: Iterable[str]) -> None:
        """Create the automaton; empty words are left out, because they would match before the first character."""
        self.goto: list[dict[str, int]] = [{}]
        self.depth: list[int] = [0]
        self.word: list[str | None] = [None]
        for word in words:
            self._add(word)
        self.fail = [0] * len(self.goto)
        self.firsts = frozenset(self.goto[0])
        self._link()

    def _add(self, word: str) -> None:
        state = 0
        for char in word:
            following = self.goto[state].get(char)
            if following is None:
                following = len(self.goto)
                self.goto[state][char] = following
                self.goto.append({})
                self.depth.append(self.depth[state] + 1)
                self.word.append(None)
            state = following
        if state:
            self.word[state] = word

    def _link(self) -> None:
        queue = deque(self.goto[0].values())
        while queue:
            state = queue.popleft()
            for char, child in self.goto[state].items():
                queue.append(child)
                back = self.fail[state]
                while back and char not in self.goto[back]:
                    back = self.fail[back]
                self.fail[child] = self.goto[back].get(char, 0)
                if self.word[child] is None:
                    self.word[child] = self.word[self.fail[child]]


class Matcher:
    """One search through one text."""

    __slots__ = ("_held", "_state", "_words")

    def __init__(self, words: Words) -> None:
        self._words = words
        self._state = 0
        self._held = ""

    def feed(self, text: str) -> tuple[str, str | None, str]:
        """Feed a piece of text.

        Returns:
            The text that is certainly not part of a word; the completed word, if any; and the text after it. After a
                word the search starts over.
        """
        words, state = self._words, self._state
        if not state and words.firsts.isdisjoint(text):
            return text, None, ""
        goto, fail = words.goto, words.fail
        for at, char in enumerate(text):
            following = goto[state].get(char)
            while following is None and state:
                state = fail[state]
                following = goto[state].get(char)
            state = following or 0
            word = words.word[state]
            if word is not None:
                whole = self._held + text[: at + 1]
                self._state, self._held = 0, ""
                return whole[: len(whole) - len(word)], word, text[at + 1 :]
        whole = self._held + text
        cut = len(whole) - words.depth[state]
        self._state, self._held = state, whole[cut:]
        return whole[:cut], None, ""

    def flush(self) -> str:
        """Return the text held back; the search starts over."""
        held, self._state, self._held = self._held, 0, ""
        return held
