"""Tensors of safetensors files as numpy arrays, BF16 and DeepSeek's FP8 included, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ashore.core.errors import UnsupportedModel
from ashore.kit.store.conversion.safetensorsmeta import FP8_BLOCK, TensorPlace, read_header

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

F16_MAX = 65504.0
WHOLE = ("I64", "I32", "I16", "U8", "BOOL")


def read_tensor(place: TensorPlace) -> npt.NDArray[np.float32]:
    """Return one tensor as float32.

    Raises:
        UnsupportedModel: a type other than F32, F16, BF16, and FP8 (E4M3) with scales.
    """
    import numpy as np

    def raw(kind: str) -> npt.NDArray[Any]:
        return np.memmap(place.file, dtype=kind, mode="r", offset=place.offset, shape=place.shape)

    match place.dtype:
        case "F32":
            return np.asarray(raw("<f4"), dtype=np.float32)
        case "F16":
            return np.asarray(raw("<f2"), dtype=np.float32)
        case "BF16":
            # A BF16 number is the upper half of a float32.
            return (np.asarray(raw("<u2")).astype(np.uint32) << 16).view(np.float32)
        case "F8_E4M3" if place.scales is not None:
            values: npt.NDArray[np.float32] = fp8_numbers()[np.asarray(raw("u1"))]
            scales = read_tensor(place.scales)
            for row, factors in enumerate(np.repeat(scales, FP8_BLOCK, axis=1)[:, : values.shape[1]]):
                values[row * FP8_BLOCK : (row + 1) * FP8_BLOCK] *= factors
            return values
        case _:
            raise UnsupportedModel(
                f"{place.file.name} has tensors of type {place.dtype}",
                hint="expected F32, F16, BF16, or FP8 with scales for blocks; serve other weights with vllm",
            )


def fp8_numbers() -> npt.NDArray[np.float32]:
    """Return the numbers that the 256 bytes of FP8 (E4M3, without infinities) mean. Source: OCP FP8 specification."""
    import numpy as np

    byte = np.arange(128)
    power, rest = byte >> 3, byte & 7
    positive = np.where(power == 0, np.ldexp(rest, -9), np.ldexp(8 + rest, power - 10)).astype(np.float32)
    positive[127] = np.nan
    return np.concatenate([positive, -positive])


def read_tensors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return every tensor of a safetensors file as float32, by name. Whole numbers, such as places that a checkpoint
    counts out, are left out.

    Raises:
        CorruptBlob: not a safetensors file, or cut short.
        UnsupportedModel: a type other than F32, F16 and BF16.
    """
    return {name: read_tensor(place) for name, place in read_header(path).items() if place.dtype not in WHOLE}


def fits_f16(values: npt.NDArray[np.float32]) -> bool:
    """Return whether every value is in the range of F16, so that none becomes infinite."""
    import numpy as np

    return not values.size or bool(np.abs(values).max() <= F16_MAX)
