"""First token of a long prompt at a branch office with its own node, and asked of a centre behind a slow line.

    python -m benchmarks.sites.firsttoken [--rounds 7] [--words 900]

Two servers with the demo model stand on this machine. One is asked directly; the other through a line of 200 ms there
and back and 2 Mbit/s, over a connection that is kept (a new one with TLS costs the centre more). The prompt is a
document of ashore's docs with a question; its beginning is new for each round, or the same in all, as staff ask several
questions about one document. Prints medians and their ratios as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))

from shared.server import serving  # noqa: E402
from sorting.link import Link  # noqa: E402


def first_token_s(client: httpx.Client, url: str, prompt: str) -> float:
    """Return the seconds until the first piece of text of a streamed answer."""
    body = {
        "model": "smollm2", "messages": [{"role": "user", "content": prompt}],
        "stream": True, "max_tokens": 8, "temperature": 0,
    }  # fmt: skip
    begun_s = time.perf_counter()
    with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                return time.perf_counter() - begun_s
    raise RuntimeError("the answer had no text")


def main() -> None:
    """Measure, and print one object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--words", type=int, default=900)
    given = parser.parse_args()
    document = " ".join((ROOT / "docs/tutorial.md").read_text(encoding="utf-8").split()[: given.words])
    with serving("smollm2") as site, serving("smollm2") as centre:
        line = Link(int(centre.url.rpartition(":")[2]), delay_s=0.1, bytes_per_s=250_000)
        far = f"http://127.0.0.1:{line.port}"
        seen: dict[str, list[float]] = {}
        for number in range(given.rounds):
            for kind, opening in (("new document", f"Document {number}. "), ("same document", "")):
                for name, server, url in (("site", site, site.url), ("centre", centre, far)):
                    ask = f"{opening}{document}\n\nQuestion {number}: what is this about?"
                    kept = httpx.Client(headers={"authorization": f"Bearer {server.key}"}, timeout=60)
                    kept.get(f"{url}/healthz")
                    seen.setdefault(f"{name}, {kind}", []).append(first_token_s(kept, url, ask))
    medians = {name: round(statistics.median(values), 3) for name, values in seen.items()}
    ratios = {
        kind: round(medians[f"site, {kind}"] / medians[f"centre, {kind}"], 3)
        for kind in ("new document", "same document")
    }
    print(json.dumps({"bytes": len(document), "seconds": medians, "site over centre": ratios}))


if __name__ == "__main__":
    main()
