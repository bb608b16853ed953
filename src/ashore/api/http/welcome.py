"""`GET /`: what a browser shows at the address of a server. It loads nothing from elsewhere and says nothing that needs
a key."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from ashore import __version__
from ashore.access import Principal
from ashore.api.http.exchange import Exchange
from ashore.api.http.routes import Route
from ashore.api.http.visiting import HOST

if TYPE_CHECKING:
    from ashore.api.http.app import HttpApp

HEADERS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "pre,code{font-family:ui-monospace,monospace;font-size:.9em}pre{padding:.8rem;border:1px solid #8886;overflow:auto}"
    "td{padding:.1rem 1rem .1rem 0;vertical-align:top}h2{margin-top:2rem;font-size:1.1rem}"
)
ASK: Final = """curl BASE/v1/chat/completions \\
  -H "Authorization: Bearer $ASHORE_API_KEY" -H "Content-Type: application/json" \\
  -d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hello"}]}'"""
PYTHON: Final = """from openai import OpenAI    # pip install openai

client = OpenAI(base_url="BASE/v1", api_key="YOUR KEY")
print([model.id for model in client.models.list()])"""


async def welcome(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /` and `HEAD /`."""
    host = exchange.headers.get(b"host", b"").decode("latin-1")
    if not HOST.fullmatch(host):  # it stands in a command that people copy
        host = ""
    scheme = exchange.scope.get("scheme", "http")
    if exchange.headers.get(b"x-forwarded-proto") == b"https":
        scheme = "https"
    cards = sorted(app.serving.models(), key=lambda card: card.embedder)
    models = [card.alias for card in cards]
    page = page_of(f"{scheme}://{host}" if host else "", models, app.table.routes)
    await exchange.respond(200, HEADERS, page.encode())


def page_of(base: str, models: Sequence[str], routes: Sequence[Route]) -> str:
    """Return the page.

    Args:
        base: Address that the browser used; empty: it did not say.
        models: Names that `/readyz` says to everybody.
        routes: All of the server; those of administrators are left to `/openapi.json`.
    """
    base = base or "http://ADDRESS"
    rows = "".join(
        f"<tr><td><code>{route.method} {escape(route.path)}</code></td><td>{escape(route.summary)}</td></tr>"
        for route in routes
        if not route.path.startswith("/admin/") and route.path != "/"
    )
    served = ", ".join(f"<code>{escape(name)}</code>" for name in models) or "no model yet"

    def block(text: str) -> str:
        return f"<pre>{escape(text.replace('BASE', base).replace('MODEL', models[0] if models else 'MODEL'))}</pre>"

    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>ashore</title><style>{STYLE}</style></head><body><h1>ashore {__version__}</h1>"
        f"<p>This server answers OpenAI and Anthropic clients. It serves {served}.</p>"
        f"<p>Base URL for OpenAI clients: <code>{escape(base)}/v1</code>; for Anthropic clients: "
        f"<code>{escape(base)}</code>. Every request needs a key: the operator has the first one "
        "(<code>ashore up</code> prints where) and creates others with <code>ashore access key create</code>.</p>"
        f"<h2>Ask</h2>{block(ASK)}<h2>From Python</h2>{block(PYTHON)}"
        "<h2>Is it well?</h2><p><a href='/readyz'>/readyz</a> says whether every model answers; on the server, "
        "<code>ashore status</code> says what runs and what needs the operator.</p>"
        f"<h2>Routes</h2><p><a href='/openapi.json'>/openapi.json</a> has every field, for the operator's machine or "
        f"with a key.</p><table>{rows}</table></body></html>"
    )
