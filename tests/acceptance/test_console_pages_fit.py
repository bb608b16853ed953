"""Every page of every role at three widths, in Chromium: acts are in the window, cells are words, axe finds nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence

import pytest
from console_site import PEOPLE, ROLES, Site, console_site
from real_browser import RealBrowser, Watched

from ashore.control.console.pages import is_list

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

WIDTHS = (1440, 1024, 390)
SHOTS = os.environ.get("ASHORE_SHOTS", "")
"""Folder for a picture of each page, theme and width; empty: none is made."""
OUTSIDE = """
[...document.querySelectorAll('main a[href], main button, main input:not([type=hidden]), main select, main summary')]
  .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest('.hide, .tabs, pre, .menu'))
  .filter((one) => { const at = one.getBoundingClientRect(); return at.right > innerWidth + 1 || at.left < -1; })
  .map((one) => one.outerHTML.slice(0, 120))
"""
CELLS = """
[...document.querySelectorAll('main td, main dd')].filter((one) => one.checkVisibility()).map((one) => one.innerText)
"""
RAW = re.compile(r"[{}\[\]]|none yet|\bnum_|(^|\s)--\w|\bNone\b|msgspec|\d{4}-\d\d-\d\dT")
"""What no cell may show: a dictionary, a null word, the name of a field, an option of a command, a raw time."""
WITH_FORMS = ("system-administrator", "security-officer")
"""Roles whose forms are looked at, too."""
SEES_PEOPLE = ("security-officer", "auditor")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Site]:
    with console_site(tmp_path_factory.mktemp("fit"), port=free_port()) as made:
        make_things(made)
        yield made


def make_things(site: Site) -> None:
    """Put something into the lists: groups, a tenant, a role, a budget, a key with limits."""
    officer, operator = "security-officer", "system-administrator"
    for path, role, form in (
        ("access-group/create", officer, {"name": "night-shift", "title": "who works at night, and at weekends too"}),
        ("access-tenant/create", officer, {"name": "acme", "title": "Acme"}),
        ("access-role/put", officer, {"role": "asker", "rules": "infer on model/chat"}),
        ("access-budget/set", operator, {"kind": "requests", "cap": "100", "window": "day", "tenant": "acme"}),
        ("access-key/create", officer, {"owner": PEOPLE["developer"], "title": "a laptop", "models": "chat"}),
    ):
        assert site.post(f"/call/{path}", role, form).status == 200, path


def calls_of(site: Site) -> list[str]:
    """Return the lists and forms of calls that need no row."""
    placed = [one for one in site.console.acts.atlas.placed if one.page != "doctor"]
    lists = [f"/{one.address}?_send=1" for one in placed if is_list(one.call)]
    return [*lists, *(f"/{one.address}" for one in placed if one.call.changes and not one.call.in_path)]


def wrong_on(one: Watched, path: str, width: int) -> list[str]:
    """Return what is wrong with a page at a width."""
    found = [f"outside: {html}" for html in one.page.evaluate(OUTSIDE)]
    if one.page.evaluate("document.documentElement.scrollWidth") > width:
        found.append("the page scrolls sideways")
    found += [f"cell: {text[:80]!r}" for text in one.page.evaluate(CELLS) if RAW.search(text)]
    return [f"{path} at {width}: {text}" for text in found]


@pytest.mark.parametrize("role", ROLES)
def test_every_page_of_a_role_fits_and_shows_words(site: Site, browser: RealBrowser, role: str) -> None:
    paths = [
        *site.shown_paths(role),
        *(calls_of(site) if role in WITH_FORMS else ()),
        *(["/kit"] if role == "none" else ()),
        *((f"/people/person?account={PEOPLE['developer']}",) if role in SEES_PEOPLE else ()),
    ]
    wrong = walked(browser, f"http://127.0.0.1:{site.port}", site.keys[role], paths)
    assert not wrong, "\n".join(wrong[:60])


def walked(browser: RealBrowser, base: str, key: str, paths: Sequence[str]) -> list[str]:
    """Return what is wrong with pages: in light English at every width, and in dark Chinese on a phone."""
    wrong: list[str] = []
    for theme, locale, widths in (("light", "en-US", WIDTHS), ("dark", "zh-CN", WIDTHS[-1:])):
        with browser.page(base, color_scheme=theme, locale=locale, expected=("Failed to load resource",)) as one:
            one.page.context.add_cookies([{"name": "who", "value": key, "url": base}])
            for path in paths:
                one.open(path)
                for width in widths:
                    one.page.set_viewport_size({"width": width, "height": 900})
                    wrong += wrong_on(one, path, width)
                    if SHOTS:
                        name = f"{re.sub(r'[^a-z0-9]+', '-', path)}-{theme}-{locale[:2]}-{width}.png"
                        one.page.screenshot(path=f"{SHOTS}/{name}", full_page=True)
                wrong += [f"{path} in {theme}: {text}" for text in one.violations()]
    return wrong
