"""A model of the store as a transformers module: what the `torch` engine runs and what training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ashore.core import ServedFormat
from ashore.errors import EngineFailed, MissingExtra, UnsupportedModel
from ashore.extras import how_to_install

TorchDtype = Literal["float32", "bfloat16", "float16"]


def load_torch_model(
    directory: Path, fmt: ServedFormat, weights: str, *, name: str, dtype: TorchDtype = "float32"
) -> Any:
    """Return the `PreTrainedModel` of a folder in Hugging Face form, or of one with a GGUF file, in evaluation mode.

    Args:
        directory: Folder with the files of the model.
        fmt: Form of the weights: `safetensors` or `gguf`.
        weights: Name of the weights file in the folder.
        name: Name for messages.
        dtype: Type of the parameters in memory.

    Raises:
        MissingExtra: torch or transformers is not installed.
        UnsupportedModel: another form.
        EngineFailed: transformers refuses the files; its own words are in the message.
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
    if fmt == "gguf":  # what was dequantised is a plain model, though transformers goes on calling it a quantised one
        model.hf_quantizer = None
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    return model.eval()


def _from_plain_gguf(directory: Path, weights: str, dtype: Any) -> Any | None:
    """Return the model that transformers makes of a GGUF file, or None where its weights need more than copying.

    The configuration is transformers' reading of the file; the weights come from ours, as transformers reads the file's
    vocabulary anew, string by string, at each of its steps.
    """
    torch, transformers = torch_libraries()
    from ashore.store import read_gguf_state  # the store is not wanted where engines are only named

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
    """Return the modules torch and transformers, which draws no bars: what it loads is loaded in jobs, whose log they
    would fill. Raises `MissingExtra`."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtra(f"this needs torch and transformers ({error})", hint=how_to_install("train")) from error
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers
