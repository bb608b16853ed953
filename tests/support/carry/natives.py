"""Import every native module below a tree's Python, each by its name; print how many, and those that fail."""

import importlib
import platform
import sys
import sysconfig
from pathlib import Path

ALONE = {"openvino.frontend.pytorch.py_pytorch_frontend", "scipy.linalg._matfuncs_sqrtm_triu"}
"""Needs torch, which no tree has; is imported by what it imports."""
SUFFIXES = (f".{sysconfig.get_config_var('SOABI')}.so", ".abi3.so")
failed, count = [], 0
for root in sorted(Path(one) for one in sys.path if Path(one).is_dir()):
    for path in sorted(root.rglob("*.so")):
        suffix = next((one for one in SUFFIXES if path.name.endswith(one)), None)
        inside = {"dist-packages", "lib-dynload"} & set(path.relative_to(root).parts)  # roots of their own
        if suffix is None or inside:
            continue
        name = ".".join(path.relative_to(root).parts).removesuffix(suffix)
        if name in ALONE:
            continue
        count += 1
        try:
            importlib.import_module(name)
        except ImportError as error:
            failed.append(f"{name}: {error!r}")
print(*failed, sep="\n")
print(f"imported {count - len(failed)} of {count} on {platform.machine()} {platform.libc_ver()[1]}")
