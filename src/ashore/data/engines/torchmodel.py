"""Loads a model of the store as a transformers module, for the `torch` engine and for training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ashore.core.errors import EngineFailed, MissingExtra, UnsupportedModel
from ashore.core.kinds import ServedFormat
from ashore.kit.extras import how_to_install

TorchDtype = Literal["float32", "bfloat16", "float16"]


def load_torch_model(
    directory: Path, fmt: ServedFormat, weights: str, *, name: str, dtype: TorchDtype = "float32"
) -> Any:
    """Return the `PreTrainedModel` of a folder in Hugging Face form, or with a GGUF file, in evaluation mode.

    Args:
        directory: Folder with the files of the model.
        fmt: Form of the weights: `safetensors` or `gguf`.
        weights: Name of the weights file in the folder.
        name: Name for messages.
        dtype: Type of the parameters in memory.

    Raises:
        MissingExtra: torch or transformers is not installed.
        UnsupportedModel: another form.
        EngineFailed: transformers rejects the files; the message has its own text.
    """
    torch, transformers = torch_libraries()
    if fmt not in ("safetensors", "gguf"):
        raise UnsupportedModel(
            f"{name} has the format {fmt!r}; torch reads safetensors and GGUF", hint="use the original model"
        )
    gguf = weights or "model.gguf"
    source = {"gguf_file": gguf} if fmt == "gguf" else {"use_safetensors": True}
    try:
        model = _from_plain_gguf(directory, gguf, getattr(torch, dtype)) if fmt == "gguf" else None
        if model is None:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                directory, dtype=getattr(torch, dtype), local_files_only=True, trust_remote_code=False, **source
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EngineFailed(
            f"transformers cannot load {name}: {error}", hint="check the files with `ashore model verify`"
        ) from error
    if fmt == "gguf":  # a dequantised model is plain, though transformers still calls it quantised
        model.hf_quantizer = None
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    return model.eval()


def _from_plain_gguf(directory: Path, weights: str, dtype: Any) -> Any | None:
    """Return the model of a GGUF file, or None if its weights need more than copying.

    transformers reads the configuration; we read the weights, since transformers rereads the file's vocabulary, string
    by string, at each step.
    """
    torch, transformers = torch_libraries()
    from ashore.kit.store import read_gguf_state  # engines can be named without importing the store

    state = read_gguf_state(directory / weights)
    if state is None:
        return None
    config = transformers.AutoConfig.from_pretrained(directory, gguf_file=weights, local_files_only=True)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    tensors = {name: torch.from_numpy(values).to(dtype) for name, values in state.items()}
    lacking = set(model.load_state_dict(tensors, strict=False, assign=True).missing_keys)
    if lacking - ({"lm_head.weight"} if config.tie_word_embeddings else set()):
        return None
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config)  # its frequencies are computed, not stored
    return model


def torch_libraries() -> tuple[Any, Any]:
    """Return the modules torch and transformers, with progress bars off, which would fill the logs of jobs. Raises
    `MissingExtra`."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtra(f"this needs torch and transformers ({error})", hint=how_to_install("train")) from error
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers
