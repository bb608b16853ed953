"""Learning from votes in this home."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import TYPE_CHECKING

from ashore.cli.bootstrap.optimizing import open_subject
from ashore.cli.bootstrap.state import open_state
from ashore.cli.bootstrap.stores import build_store
from ashore.cli.bootstrap.variants import prepare_variant
from ashore.core.clock import SystemClock
from ashore.kit.settings import Settings

if TYPE_CHECKING:
    from ashore.data.feedback import LearningSection
    from ashore.lab.evaluation import Subject
    from ashore.lab.learning.runner import Learning


@contextmanager
def open_learning(
    settings: Settings, section: LearningSection, *, say: Callable[[str], None] = lambda line: None
) -> Iterator[Learning]:
    """Open learning in this home, on its state.

    Args:
        settings: Of the home.
        section: `[learning]`.
        say: Called with each message.

    Raises:
        StateLost, HomeTooNew: the state cannot be opened.
    """
    from ashore.data.audit import SqlSubjectKeys
    from ashore.data.engines import DEFAULT
    from ashore.data.feedback.texts import SealedTexts
    from ashore.lab.learning.runner import Learning

    store = build_store(settings.home, settings)

    def opened(name: str) -> AbstractContextManager[Subject]:
        """Open a model in half precision on the default engine if that supports its family: as it is served, and the
        same for both sides of a comparison.
        """
        known = store.resolve(name).shape.architecture in (DEFAULT.decoders or ())
        return open_subject(store, settings.home, name, kind=DEFAULT.kind if known else None)

    with closing(open_state(settings)) as state:
        yield Learning(
            state,
            store,
            section,
            folder=settings.home.cache / "learning",
            adapters=settings.home.adapters,
            texts=SealedTexts(SqlSubjectKeys(state)),
            open_subject=opened,
            prepare=lambda model, variant: prepare_variant(store, store.resolve(model), variant).reference,
            clock=SystemClock(),
            say=say,
        )
