"""Models under test: the fake engine in this process, and one that likes and says what it is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local_subject import LocalSubject

from ashore.data.engines import EngineOptions, ScoredText, ScoreText, TokenLogprob
from ashore.data.engines.fake.engine import FakeEngine
from ashore.data.engines.fake.files import fake_model_files
from ashore.data.text import TextModel
from ashore.lab.evaluation import Generated, Told, untold

FAKE = "fake:random?context=512"


@contextmanager
def local_subject(directory: Path, name: str = FAKE) -> Iterator[LocalSubject]:
    """Open a fake model in this process."""
    files = fake_model_files(name, directory)
    engine = FakeEngine()
    info = engine.load(files, EngineOptions(kind="fake"))
    yield LocalSubject(name, engine, info, TextModel.load(Path(files.directory)))
    engine.close()


class Scripted:
    """A subject whose tokens are bytes: what it likes costs nothing, all else `cost` nats a byte; it says one thing."""

    def __init__(self, directory: Path, *, likes: Sequence[str] = (), says: str = "", cost: float = -1.0) -> None:
        files = fake_model_files(FAKE, directory)
        engine = FakeEngine()
        self.info = engine.load(files, EngineOptions(kind="fake"))
        self.text = TextModel.load(Path(files.directory))
        self.name = "scripted"
        self.scored: list[tuple[list[int], int]] = []
        self._likes, self._says, self._cost = likes, says, cost

    def score(self, texts: Sequence[ScoreText], *, top_logprobs: int = 0, told: Told = untold) -> list[ScoredText]:
        self.scored += [(text.ids, text.start) for text in texts]
        told(len(texts), len(texts))
        return [self._rows(text, top_logprobs) for text in texts]

    def _rows(self, text: ScoreText, top: int) -> ScoredText:
        said = self.text.decode(text.ids[text.start :]).strip()
        # The space before a choice is cheap, as it is for a real model.
        costs = [0.1 * self._cost if token_id == 32 else self._cost for token_id in text.ids[text.start :]]
        liked = said in self._likes
        return [
            (TokenLogprob(token_id, 0.0 if liked else cost), *[TokenLogprob(token_id if liked else 0, 0.0)] * top)
            for token_id, cost in zip(text.ids[text.start :], costs, strict=True)
        ]

    def distributions(self, text: ScoreText) -> Any:
        raise AssertionError("not asked for")

    def generate(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, ignore_eos: bool = False, told: Told = untold
    ) -> list[Generated]:
        ids = tuple(self.text.encode(self._says))
        return [Generated(ids=ids, reason="stop", token_s=(0.0,) * len(ids)) for _ in prompts]

    def resident_bytes(self) -> int:
        return 0

    def scored_tokens(self) -> int:
        return 0
