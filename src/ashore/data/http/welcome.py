"""`GET /` and `GET /docs`: what a browser shows at the address of a server. The pages load nothing from elsewhere and
show nothing that needs a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from ashore import __version__
from ashore.data.authority import Principal
from ashore.data.http.exchange import Exchange
from ashore.data.http.routes import HOST, Route
from ashore.data.path import ModelCard

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp
    from ashore.data.http.face import Face

HEADERS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2.5rem auto;padding:0 1rem;"
    "background:light-dark(#fff,#14181c);color:light-dark(#1a2227,#e6ebee)}"
    "h1{font-size:1.5rem;display:flex;gap:.6rem;align-items:center}h1 svg{width:2rem}"
    "h2{margin-top:2rem;font-size:1.1rem}a{color:light-dark(#0a5876,#7cc7e8)}"
    "pre,code{font-family:ui-monospace,monospace;font-size:.9em}"
    "pre{padding:.8rem;border:1px solid light-dark(#c9d1d6,#39434c);border-radius:6px;overflow:auto}"
    ".act{display:inline-block;padding:.4rem .95rem;border-radius:6px;background:#0a5876;color:#fff;"
    "text-decoration:none;margin-right:1rem}td{padding:.1rem 1rem .1rem 0;vertical-align:top}"
)
LOGO: Final = (
    '<svg viewBox="0 0 32 32" aria-hidden="true"><path fill="#0f6b8f" d="M15 3h2v17h-2zM14 8v10H6z"/>'
    '<path fill="#e2703a" d="M18 5l9 13h-9z"/><path fill="none" stroke="#0f6b8f" stroke-width="2.4" '
    'stroke-linecap="round" d="M3 24c3-3 5-3 8 0s5 3 8 0 5-3 8 0M7 29c3-2 5-2 8 0s5 2 8 0"/></svg>'
)
HEAD: Final = """ \\
  -H "Authorization: Bearer $ASHORE_API_KEY" -H "Content-Type: application/json" \\
  -d '"""
QUESTION: Final = '{"role": "user", "content": "Hello"}'
CHAT: Final = f"""curl BASE/v1/chat/completions{HEAD}{{"model": "MODEL", "messages": [{QUESTION}]}}'"""
EMBED: Final = f"""curl BASE/v1/embeddings{HEAD}{{"model": "MODEL", "input": "Hello"}}'"""
HEAD_CARD: Final = """curl BASE/v1/heads/MODEL -H "Authorization: Bearer $ASHORE_API_KEY\""""
PYTHON: Final = """from openai import OpenAI    # pip install openai

client = OpenAI(base_url="BASE/v1", api_key="YOUR KEY")
print([model.id for model in client.models.list()])"""


async def welcome(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /` and `HEAD /`: leads a browser to the console where there is one; a program gets the server's page."""
    if app.has_console and b"text/html" in exchange.headers.get(b"accept", b""):
        await exchange.respond(303, (*HEADERS, (b"location", b"console"), (b"vary", b"accept")), b"")
        return
    page = page_of(_base_of(exchange), app.serving.models(), has_console=app.has_console)
    await exchange.respond(200, HEADERS, page.encode())


async def docs(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`GET /docs`."""
    await exchange.respond(200, HEADERS, docs_of(_base_of(exchange), app.described).encode())


def _base_of(exchange: Exchange) -> str:
    """Return the address that the browser used; a placeholder if it is missing or unsafe to show."""
    host = exchange.headers.get(b"host", b"").decode("latin-1")
    if not HOST.fullmatch(host):  # it becomes part of a command that people copy
        return "http://ADDRESS"
    is_tls = exchange.scope.get("scheme") == "https" or exchange.headers.get(b"x-forwarded-proto") == b"https"
    return f"{'https' if is_tls else 'http'}://{host}"


def page_of(base: str, cards: Sequence[ModelCard], *, has_console: bool) -> str:
    """Return the first page.

    Args:
        base: Address of the server.
        cards: Cards of the served models, whose names `/readyz` shows to everybody. The example uses the first chat
            model.
        has_console: Whether to link it.
    """
    first = min(cards, key=lambda card: (not card.chats, card.alias.startswith("fake:"), card.alias), default=None)
    example = CHAT if first is None or first.chats else EMBED if first.embedder else HEAD_CARD
    model = first.alias if first is not None else "MODEL"
    served = ", ".join(f"<code>{escape(card.alias)}</code>" for card in cards) or "no model yet"
    console = "<a class='act' href='/console'>Open the console</a>" if has_console else ""
    return _framed(
        f"<h1>{LOGO}ashore {__version__}</h1>"
        f"<p>This server answers OpenAI, Anthropic and gRPC clients. It serves {served}.</p>"
        f"<p>{console}<a href='/docs'>Routes of the API</a></p>"
        f"<h2>Ask</h2>{_block(example, base, model)}"
        "<p>Every request needs a key. <code>ashore up</code> prints where the first one is; with it, "
        "<code>export ASHORE_API_KEY=$(cat FILE)</code>. The base URL of OpenAI clients is "
        f"<code>{escape(base)}/v1</code>, that of Anthropic clients <code>{escape(base)}</code>.</p>"
        f"<h2>From Python</h2>{_block(PYTHON, base, model)}"
        "<p><a href='/readyz'>/readyz</a> says whether every model answers; on the server's machine, "
        "<code>ashore status</code> says what runs and what needs the operator.</p>"
    )


def docs_of(base: str, routes: Sequence[Route]) -> str:
    """Return the page of the routes; those of administration and of the console's pages are in `/openapi.json`."""
    rows = "".join(
        f"<tr><td><code>{route.method} {escape(route.path)}</code></td><td>{escape(route.summary)}</td></tr>"
        for route in routes
        if not route.path.startswith(("/admin/", "/console"))
        and route.guard != "ours"
        and route.path not in ("/", "/docs")
    )
    return _framed(
        f"<h1>{LOGO}Routes of the API</h1><p><a href='/'>What this server is</a></p>"
        f"<p>Base URL of OpenAI clients: <code>{escape(base)}/v1</code>. <a href='/openapi.json'>/openapi.json</a> has "
        "every route with every field; it is for browsers on the server's machine, or with a key.</p>"
        f"<table>{rows}</table>"
    )


def _block(text: str, base: str, model: str) -> str:
    return f"<pre>{escape(text.replace('BASE', base).replace('MODEL', model))}</pre>"


def _framed(body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>ashore</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )
