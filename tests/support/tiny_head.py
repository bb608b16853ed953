"""A head of five features for tests: its files, and rows for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

FORM: dict[str, Any] = {
    "title": "a test",
    "features": [
        {"name": "age", "kind": "binned", "edges": [25, 40], "optional": True},
        {"name": "purpose", "kind": "category", "values": ["car", "house"]},
        {"name": "debts", "kind": "number", "scale": 100},
        {"name": "vector", "kind": "vector", "size": 3, "scale": 0.01},
    ],
    "decisions": [{"name": "approve", "at_least": 0}],
    "below": "refuse",
}
WEIGHTS = [[-20, 5, 15, -7, 30, -9, -3, 2, -1, 4]]
ROW = {"age": 30, "purpose": "car", "debts": 420, "vector": [0.5, -0.25, 9]}
"""5 + 30 - 3 * 4 + 2 * 50 + 1 * 25 + 4 * 127 = 656, and the bias of -600."""


def write_head(folder: Path, *, form: dict[str, Any] = FORM, weights: Any = WEIGHTS, bias: Any = (-600,)) -> Path:
    """Write the files of a head, and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"weights": np.array(weights, np.int32), "bias": np.array(bias, np.int32)}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "head", "head": form}))
    return folder


def sealed_row(parameters: dict[str, Any], row: list[int]) -> tuple[bytes, Any]:
    """Return a row as a client encrypts it, and what decrypts the scores."""
    import tempfile

    import tenseal.sealapi as seal

    from ashore.data.engines.tabular.sealed import context_of, polynomial

    context, plain = context_of(parameters), 1 << parameters["plain_bits"]
    secret = seal.KeyGenerator(context).secret_key()
    with tempfile.TemporaryDirectory() as folder:
        seal.Encryptor(context, secret).encrypt_symmetric(seal.Plaintext(polynomial(row, plain))).save(f"{folder}/row")
        sealed = Path(f"{folder}/row").read_bytes()

    def opened(answer: bytes) -> list[int]:
        with tempfile.TemporaryDirectory() as folder:
            Path(f"{folder}/answer").write_bytes(answer)
            product, text = seal.Ciphertext(context), seal.Plaintext()
            product.load(context, f"{folder}/answer")
        seal.Decryptor(context, secret).decrypt(product, text)
        places = [(at + 1) * parameters["size"] - 1 for at in range(parameters["outputs"])]
        numbers = [int(text[at]) if at < text.coeff_count() else 0 for at in places]
        return [one - plain if one > plain // 2 else one for one in numbers]

    return sealed, opened
