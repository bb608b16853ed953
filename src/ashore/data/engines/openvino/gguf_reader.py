"""`python -m ashore.data.engines.openvino.gguf_reader FILE`: writes an OpenVINO model next to a GGUF file.

A process of its own, because the library compiles the model while reading and frees the memory only at exit.
"""

from __future__ import annotations

import sys

from ashore.kit.processes import silence_host


def main(gguf_path: str) -> int:
    """Read, write `openvino_model.xml` and `.bin`, return the exit code."""
    silence_host()
    import openvino_genai

    try:
        openvino_genai.LLMPipeline(gguf_path, "CPU", enable_save_ov_model=True)
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
