"""A quantised GGUF file to an F16 one, once, so that every engine starts from the same plain weights.

Rank-1 tensors (norms, biases) become F32, as every converter writes them. Needs memory for one tensor at a time.
"""

from __future__ import annotations

from pathlib import Path

from ashore.kit.store.conversion.ggufmeta import gguf_reader, read_gguf_meta
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.progress import Progress, silent

_NOT_COPIED = ("general.architecture", "general.file_type", "general.quantization_version")
_PLAIN = ("F64", "F32", "F16", "BF16")
_FILE_TYPE_F16 = 1
"""`general.file_type` of "mostly F16". Source: GGUF specification, general.file_type."""


def is_quantised(file: Path) -> bool:
    """Return whether a GGUF file has weights of less than 16 bits."""
    return any(tensor.type_name not in _PLAIN for tensor in read_gguf_meta(file).tensors)


def dequantise(source: Path, target: Path, *, progress: Progress = silent) -> dict[str, str]:
    """Write `source` with every weight as F16 to `target`; return how that was done. Equal input gives equal bytes."""
    import gguf
    import numpy as np

    with disk_errors(target), gguf_reader(source) as reader:
        architecture = reader.fields["general.architecture"].contents()
        writer = gguf.GGUFWriter(target, architecture)
        for name, field in reader.fields.items():
            if name.startswith("GGUF.") or name in _NOT_COPIED:
                continue
            kind = field.types[0]
            sub_type = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, sub_type=sub_type)
        writer.add_file_type(_FILE_TYPE_F16)
        for tensor in reader.tensors:
            itemsize = 2 if len(tensor.shape) > 1 else 4
            writer.add_tensor_info(
                tensor.name,
                tuple(int(n) for n in reversed(tensor.shape)),
                np.dtype(np.float16 if itemsize == 2 else np.float32),
                int(tensor.n_elements) * itemsize,
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        total = sum(int(t.n_elements) for t in reader.tensors) * 2
        done = 0
        for tensor in reader.tensors:
            plain = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            plain = plain.astype(np.float16 if len(tensor.shape) > 1 else np.float32)
            writer.write_tensor_data(plain)
            done += int(tensor.n_elements) * 2
            progress("dequantise to F16", done, total)
        writer.close()
    return {"dequantised_from": source.name, "precision": "fp16", "tool": f"gguf {_gguf_version()}"}


def _gguf_version() -> str:
    from importlib.metadata import version

    return version("gguf")
