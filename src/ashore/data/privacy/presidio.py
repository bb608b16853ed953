"""Presidio as the detector, with the built-in detectors as one of its recognisers. Needs `ashore[presidio]`.

By default Presidio downloads a missing language model; here it never does. Its recognisers of names and places need a
spaCy model that the operator installed; without one only its patterns and the built-in detectors work.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any, Final

from ashore.core.errors import MissingExtra
from ashore.data.privacy.detect import settle
from ashore.data.privacy.model import KINDS, Entity, Finder
from ashore.kit.extras import how_to_install

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine

SCORE: Final = 0.5
"""Least certainty that counts. Presidio's bare patterns are below it until a word beside them speaks for them."""
OWN_SCORE: Final = 1.0
LANGUAGE: Final = "en"
_PREFIX: Final = "ASHORE_"
_CALLS_HOME: Final = ("EmailRecognizer", "UrlRecognizer")
"""These ask the network for the list of public suffixes at their first use. The own detectors find e-mail addresses."""
_MODELS: Final = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm")
_KINDS: Final = {
    "CREDIT_CARD": "bank_card",
    "PHONE_NUMBER": "phone",
    "EMAIL_ADDRESS": "email",
    "IP_ADDRESS": "ip",
    "MAC_ADDRESS": "mac",
    "IBAN_CODE": "iban",
    "US_SSN": "ssn",
    "US_PASSPORT": "passport",
    "UK_PASSPORT": "passport",
    "PERSON": "name",
    "LOCATION": "address",
}
"""What Presidio calls what we know. Its other entities (dates, addresses on the web) are no kinds of ours."""
_RANK: Final = {kind: rank for rank, kind in enumerate(KINDS)}


class PresidioFinder:
    """A finder over Presidio's analyser. Safe to call from several threads, as the analyser is."""

    def __init__(self, own: Finder) -> None:
        """Load it.

        Args:
            own: The built-in detectors, which become one of Presidio's recognisers.

        Raises:
            MissingExtra: Presidio is not installed.
        """
        try:
            version = importlib.metadata.version("presidio-analyzer")
        except ImportError as fault:
            raise MissingExtra(
                'the detector "presidio" is not installed',
                hint=f'{how_to_install("presidio")}; or set detector = "own"',
            ) from fault
        self._analyzer = _make_analyzer(own)
        self._name = f"presidio {version} with {own.name}"

    @property
    def kinds(self) -> tuple[str, ...]:
        return KINDS

    @property
    def name(self) -> str:
        return self._name

    def find(self, text: str) -> tuple[Entity, ...]:
        """Return the entities found, in order, without overlaps."""
        found = []
        for result in self._analyzer.analyze(text=text, language=LANGUAGE, score_threshold=SCORE):
            kind = _KINDS.get(result.entity_type, result.entity_type.removeprefix(_PREFIX).lower())
            if kind in _RANK:
                found.append(Entity(kind, result.start, result.end))
        return settle(found, _RANK)


def _make_analyzer(own: Finder) -> AnalyzerEngine:
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry

    registry = RecognizerRegistry(supported_languages=[LANGUAGE])
    nlp = _nlp_engine()
    registry.load_predefined_recognizers(languages=[LANGUAGE], nlp_engine=nlp)
    for name in _CALLS_HOME:
        registry.remove_recognizer(name)
    registry.add_recognizer(_own_recognizer(own))
    return AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=[LANGUAGE])


def _own_recognizer(own: Finder) -> Any:
    from presidio_analyzer import EntityRecognizer, RecognizerResult

    class OwnRecognizer(EntityRecognizer):  # type: ignore[misc]
        """The built-in detectors as a Presidio recogniser."""

        def load(self) -> None:
            return None

        def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> list[Any]:
            return [
                RecognizerResult(entity_type=_PREFIX + one.kind.upper(), start=one.start, end=one.end, score=OWN_SCORE)
                for one in own.find(text)
            ]

    return OwnRecognizer(
        supported_entities=[_PREFIX + kind.upper() for kind in own.kinds],
        name="ashore",
        supported_language=LANGUAGE,
    )


def _nlp_engine() -> Any:
    """Return an engine over an installed spaCy model, or over a tokeniser alone. Downloads nothing."""
    import spacy
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine

    installed = next((model for model in _MODELS if spacy.util.is_package(model)), None)

    class InstalledNlp(SpacyNlpEngine):  # type: ignore[misc]
        """Loads only models installed on this machine."""

        def load(self) -> None:
            self.nlp = {LANGUAGE: spacy.blank(LANGUAGE) if installed is None else spacy.load(installed)}

    engine = InstalledNlp(
        models=[{"lang_code": LANGUAGE, "model_name": installed or "blank"}],
        ner_model_configuration=NerModelConfiguration(),
    )
    engine.load()
    return engine
