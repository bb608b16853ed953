"""The client of an encrypted score: BFV through SEAL, as TenSEAL brings it. Keys and features stay in this process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import tenseal.sealapi as seal


class Sealed:
    """Encrypts rows for one head, and decrypts its scores."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        """Make a key for `encrypted` of `GET /v1/heads/NAME`."""
        chosen = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
        chosen.set_poly_modulus_degree(parameters["degree"])
        chosen.set_coeff_modulus(seal.CoeffModulus.BFVDefault(parameters["degree"], seal.SEC_LEVEL_TYPE.TC128))
        chosen.set_plain_modulus(1 << parameters["plain_bits"])
        self._context = seal.SEALContext(chosen, True, seal.SEC_LEVEL_TYPE.TC128)  # refuses less than 128 bits
        secret = seal.KeyGenerator(self._context).secret_key()
        self._encryptor, self._decryptor = seal.Encryptor(self._context, secret), seal.Decryptor(self._context, secret)
        self._plain, self._size = 1 << parameters["plain_bits"], parameters["size"]
        self._outputs = parameters["outputs"]
        self._file = Path(tempfile.mkdtemp()) / "ciphertext"

    def encrypt(self, row: list[int]) -> bytes:
        """Return a row of whole numbers as a ciphertext: number i is the coefficient of X^i."""
        terms = [f"{one % self._plain:X}x^{at}" for at, one in reversed([*enumerate(row)]) if one % self._plain]
        text = seal.Plaintext(" + ".join(terms) or "0")
        self._encryptor.encrypt_symmetric(text).save(str(self._file))
        return self._file.read_bytes()

    def decrypt(self, answer: bytes) -> list[int]:
        """Return the scores in an answer: output j is the coefficient of X^((j + 1) * size - 1)."""
        self._file.write_bytes(answer)
        product, text = seal.Ciphertext(self._context), seal.Plaintext()
        product.load(self._context, str(self._file))
        self._decryptor.decrypt(product, text)
        found = []
        for place in range(self._size - 1, self._outputs * self._size, self._size):
            one = int(text[place]) if place < text.coeff_count() else 0
            found.append(one - self._plain if one > self._plain // 2 else one)
        return found
