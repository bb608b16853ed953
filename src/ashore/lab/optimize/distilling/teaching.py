"""The teacher's part: it reads every example once, on the engine that serves it, and its outputs are stored."""

from __future__ import annotations

import numpy as np
from blake3 import blake3

from ashore.core.errors import UnsupportedByEngine
from ashore.core.ids import Digest
from ashore.data.engines import ScoredText, ScoreText
from ashore.data.text import TextModel
from ashore.lab.evaluation import Subject, Told, untold
from ashore.lab.optimize.distilling.logitstore import CHUNK, LogitStore, StoreKey
from ashore.lab.optimize.distilling.toprows import TopRows, cut_rows, top_rows
from ashore.lab.training import Corpus


def most_told(subject: Subject, wanted: int) -> int:
    """Return how many tokens of a position this engine can report, at most `wanted`.

    Raises:
        UnsupportedByEngine: it does not score texts.
    """
    info = subject.info
    if "distributions" in info.features:
        return min(wanted, info.vocab_size)
    if "score" in info.features and info.max_top_logprobs:
        return min(wanted, info.max_top_logprobs)
    raise UnsupportedByEngine(
        f"the engine {info.kind!r} of {subject.name} does not return token probabilities",
        hint="choose another engine: --teacher-engine openvino",
    )


def logits_key(
    subject: Subject, teacher: Digest, corpus: Corpus, *, most: int, tail: float, tokenizer: Digest
) -> StoreKey:
    """Return the key of a teacher's log-probabilities of `corpus`."""
    info = subject.info
    return StoreKey(
        teacher=teacher,
        engine=f"{info.version} {info.precision}",
        tokenizer=tokenizer,
        data=corpus_digest(corpus),
        num_examples=corpus.num_examples,
        most=most_told(subject, most),
        tail=tail,
    )


def corpus_digest(corpus: Corpus) -> Digest:
    """Return a digest of all token ids and example boundaries."""
    digest = blake3(corpus.starts.astype("<i8").tobytes())
    digest.update(corpus.ids.astype("<i4").tobytes())
    return Digest(f"blake3:{digest.hexdigest()}")


def vocabulary_digest(text: TextModel) -> Digest:
    """Return a digest of the vocabulary. Equal digests mean that two models' tokens are comparable."""
    digest = blake3()
    for token_id in range(text.vocab_size):
        piece = text.token_bytes(token_id)
        digest.update(len(piece).to_bytes(4, "little") + piece)
    return Digest(f"blake3:{digest.hexdigest()}")


def write_logits(store: LogitStore, subject: Subject, corpus: Corpus, *, told: Told = untold) -> None:
    """Let the teacher read all unread examples; at the end every example of `corpus` is in `store`.

    May be called again after any interruption: it resumes after the last chunk on disk. Engines report few tokens in
    one call for many texts, or all tokens for one text; the first way is used if it suffices.

    Raises:
        DiskFull: as `LogitStore`. HostDied, EngineFailed: the teacher's engine.
    """
    most, tail = store.key.most, store.key.tail
    done = store.num_done
    told(done, corpus.num_examples)
    while done < corpus.num_examples:
        texts = [example_text(corpus, number) for number in range(done, min(done + CHUNK, corpus.num_examples))]
        if most > subject.info.max_top_logprobs:
            rows = [top_rows(subject.distributions(text), most=most, tail=tail) for text in texts]
        else:
            rows = [_rows_of(scored, tail=tail) for scored in subject.score(texts, top_logprobs=most)]
        store.append(rows)
        done += len(texts)
        told(done, corpus.num_examples)


def example_text(corpus: Corpus, number: int) -> ScoreText:
    return ScoreText(corpus.ids[corpus.starts[number] : corpus.starts[number + 1]].tolist(), 1)


def _rows_of(scored: ScoredText, *, tail: float) -> TopRows:
    """Return the likeliest tokens of each position; the first entry is the actual token."""
    ids_NK = np.array([[one.token_id for one in row[1:]] for row in scored], np.int64)
    logprobs_NK = np.array([[one.logprob for one in row[1:]] for row in scored], np.float32)
    return cut_rows(ids_NK, logprobs_NK, tail=tail)
