"""Run inside a network namespace that has nothing but loopback: start `ashore up`, ask it something, stop it.

Usage: ask_cut_off.py HOME MODEL [QUESTION [STORE]]
"""

from __future__ import annotations

import sys
from pathlib import Path

import openai
from loopback import raise_loopback
from served import start_served


def main(home: str, model: str, question: str = "ping", store: str = "") -> int:
    raise_loopback()
    server = start_served(Path(home), [model], store=Path(store) if store else None, port=8080, grpc_port=8081)
    try:
        with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0) as api:
            answer = api.chat.completions.create(
                model=model, messages=[{"role": "user", "content": question}], max_tokens=32, temperature=0
            )
            print("answer:", answer.choices[0].message.content)
    except Exception:
        print(server.everything_said())
        raise
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
