"""What a bag of words reaches on the benchmark's task: TF-IDF and logistic regression, by scikit-learn.

Run: python -m benchmarks.optimise.baselines   (needs `ashore[bench]`)

Two bags: words and pairs of words, and the same with pieces of words. The strength of the regression is chosen on a
quarter of the training items, and the better bag is the baseline: the teacher has to stand above the best of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from benchmarks.optimise.task import Definition, definitions

STRENGTHS: Final = (3.0, 10.0, 30.0)


def accuracies(train: Sequence[Definition], test: Sequence[Definition]) -> dict[str, float]:
    """Return each baseline's share of right answers on `test`."""
    return {name: _accuracy(name, train, test) for name in ("words", "words and their pieces")}


def best(train: Sequence[Definition], test: Sequence[Definition]) -> float:
    return max(accuracies(train, test).values())


def _accuracy(name: str, train: Sequence[Definition], test: Sequence[Definition]) -> float:
    cut = len(train) * 3 // 4
    held = {strength: _score(_fitted(name, strength, train[:cut]), train[cut:]) for strength in STRENGTHS}
    return _score(_fitted(name, max(held, key=held.__getitem__), train), test)


def _fitted(name: str, strength: float, items: Sequence[Definition]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    features = [TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)]
    if name != "words":
        features.append(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True))
    model = make_pipeline(make_union(*features), LogisticRegression(C=strength, max_iter=1000))
    return model.fit([item.text for item in items], [item.kind for item in items])


def _score(model: Any, items: Sequence[Definition]) -> float:
    return float(model.score([item.text for item in items], [item.kind for item in items]))


def main() -> None:
    train, test = definitions("train"), definitions("test")
    print(f"{len(train)} training items, {len(test)} test items")
    for name, accuracy in accuracies(train, test).items():
        print(f"TF-IDF of {name} and logistic regression: {100 * accuracy:.1f} % right")


if __name__ == "__main__":
    main()
