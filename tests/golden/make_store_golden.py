"""Make `store_tiny_models.json`: log-probabilities of tiny models by torch and transformers, the reference.

Run with an environment that has both: `python tests/golden/make_store_golden.py`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

IDS = [256] + [(i * 37 + 11) % 250 for i in range(90)]


def main() -> None:
    import torch
    import transformers
    from tiny_models import CONFIGS, EXPERTS, make_tiny_model

    golden = {}
    for kind in (*CONFIGS, *EXPERTS):
        for dtype in ("F16", "BF16"):
            with tempfile.TemporaryDirectory() as folder:
                path = make_tiny_model(Path(folder), kind, dtype=dtype)
                model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
                with torch.no_grad():
                    scores = torch.log_softmax(model(torch.tensor([IDS])).logits[0], dim=-1)
            chosen = [round(float(scores[i, token]), 5) for i, token in enumerate(IDS[1:])]
            golden[f"{kind}-{dtype}"] = {"ids": IDS, "logprobs": chosen}
    (HERE / "store_tiny_models.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
