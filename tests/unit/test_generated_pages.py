"""Pages of the reference that are written from the code say what the code says now."""

from __future__ import annotations

from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from ashore.core.shapes import kv_bytes_per_token
from ashore.kit.metrics import TABLE
from ashore.kit.store import Catalog

DOCS = Path(__file__).parents[2] / "docs/reference"
PAGES = {"metrics": "deploy.make_metrics_page", "sizing": "deploy.make_sizing_page"}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_what_the_code_says(page: str) -> None:
    written = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert written == import_module(PAGES[page]).reference(), "write it again: make docs"


def doctor_page() -> ModuleType:
    spec = spec_from_file_location("make_doctor_page", DOCS.parents[1] / "deploy/make_doctor_page.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_about_the_doctor_names_the_tests_that_show_its_rules() -> None:
    written = (DOCS / "doctor.md").read_text(encoding="utf-8")
    assert written == doctor_page().page(), "write it again: make docs"
    assert "| D405 |" in written and "a listener whose queue is full" in written


def test_every_metric_of_the_request_path_has_a_row() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    for one in TABLE:
        assert page.count(f"| `{one.name}{'_total' if one.kind == 'counter' else ''}` |") == 1
    assert "`ashore_backup_failures`" in page and "`ashore_trace_spans_total`" in page


def test_the_example_of_the_page_about_sizing_is_right() -> None:
    page = (DOCS / "sizing.md").read_text(encoding="utf-8")
    entry = Catalog.load().get("deepseek-r1-distill-qwen-7b")
    assert entry.shape is not None
    weights = entry.shape.num_parameters * 17 / 16
    a_token = kv_bytes_per_token(entry.shape, itemsize=1) * 1.13
    assert f"{weights / 2**30:.1f} GiB of weights" in page
    assert f"at {a_token / 1024:.0f} KiB" in page and f"{64_000 * a_token / 2**30:.1f} GiB. A machine" in page
    assert f"at most {100e9 / weights:.0f} tokens/s" in page
