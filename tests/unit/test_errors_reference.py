"""The reference of errors is what their classes say, and each says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from deploy.make_errors_page import reference

from ashore.core.errors import AshoreError, UnknownModel, error_class, error_codes

PAGE = Path(__file__).parents[2] / "docs/reference/errors.md"
KINDS = [kind for code in error_codes() if (kind := error_class(code)) and kind is not AshoreError]


def test_the_page_is_what_the_classes_say() -> None:
    again = "python -m deploy.make_errors_page > docs/reference/errors.md"
    assert PAGE.read_text(encoding="utf-8") == reference(), f"write it again: {again}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_says_what_it_means_and_what_to_do_and_stands_on_the_page_once(kind: type[AshoreError]) -> None:
    assert kind.meaning().endswith(".")
    assert kind.remedy().endswith("."), f"{kind.__name__}: say in a second paragraph of the docstring what to do"
    assert reference().count(f"| `{kind.code}` | {kind.http_status} |") == 1


def test_a_message_that_was_not_given_is_the_meaning_alone() -> None:
    assert UnknownModel().message == "No model has this name."
