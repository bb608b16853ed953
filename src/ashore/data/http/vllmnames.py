"""vLLM's metric names, so that dashboards, autoscalers and endpoint pickers made for it can read ashore.

They are derived from the finished page on request: nothing is measured twice. Each covers a whole model, over all its
replicas and workers, with the labels `model_name` and `engine`, which is always 0: an endpoint picker reads one series.
`ashore_host_*` has the values of each replica.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

How = Literal["sum", "share", "histogram", "blocks", "adapters"]
"""sum: of all series of a model. share: of the first source in the second. histogram: the same under another name.
blocks, adapters: facts, told by labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One metric name of vLLM."""

    name: str
    """Without `vllm:`."""
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    of: tuple[str, ...]
    """Our families that it is made of, by the names of their samples on the page."""
    how: How = "sum"
    by: str = ""
    """The label of ours that stays one, as `finished_reason`."""


def _same(name: str, ours: str, text: str) -> Row:
    return Row(name=name, kind="histogram", help=text, of=(ours,), how="histogram")


VLLM_TABLE: Final = (
    Row(
        name="num_requests_running", kind="gauge", help="Sequences in the batches of engines.",
        of=("ashore_host_running",),
    ),
    Row(
        name="num_requests_waiting", kind="gauge", help="Sequences that wait for a slot, in workers and hosts.",
        of=("ashore_waiting_sequences", "ashore_host_waiting"),
    ),
    Row(
        name="kv_cache_usage_perc", kind="gauge", help="Share of the KV cache in use; 1 is all of it.",
        of=("ashore_host_kv_tokens_used", "ashore_host_kv_tokens_total"), how="share",
    ),
    Row(
        name="gpu_cache_usage_perc", kind="gauge", help="The same, by its older name.",
        of=("ashore_host_kv_tokens_used", "ashore_host_kv_tokens_total"), how="share",
    ),
    Row(
        name="cache_config_info", kind="gauge", help="Shape of the KV cache, in labels.",
        of=("ashore_host_block_tokens", "ashore_host_kv_tokens_total"), how="blocks",
    ),
    Row(
        name="lora_requests_info", kind="gauge", help="LoRA adapters at work, in labels; the value is the time.",
        of=("ashore_host_adapters", "ashore_host_adapter_active"), how="adapters",
    ),
    Row(
        name="prompt_tokens", kind="counter", help="Prompt tokens of whole answers.", of=("ashore_prompt_tokens_total",)
    ),
    Row(
        name="generation_tokens", kind="counter", help="Tokens generated in whole answers.",
        of=("ashore_completion_tokens_total",),
    ),
    Row(
        name="prefix_cache_queries", kind="counter", help="Prompt tokens looked up in the prefix cache.",
        of=("ashore_host_prompt_tokens_total",),
    ),
    Row(
        name="prefix_cache_hits", kind="counter", help="Prompt tokens found there.",
        of=("ashore_host_cached_tokens_total",),
    ),
    Row(
        name="spec_decode_num_draft_tokens", kind="counter", help="Tokens proposed by look-up.",
        of=("ashore_host_proposed_tokens_total",),
    ),
    Row(
        name="spec_decode_num_accepted_tokens", kind="counter", help="Those that answers go on with.",
        of=("ashore_host_accepted_tokens_total",),
    ),
    Row(
        name="num_preemptions", kind="counter", help="Sequences set back for want of KV cache.",
        of=("ashore_host_preemptions_total",),
    ),
    Row(
        name="request_success", kind="counter", help="Choices that ended, by why.", of=("ashore_answers_total",),
        by="reason",
    ),
    _same("time_to_first_token_seconds", "ashore_ttft_seconds", "From arrival to the first piece of the answer."),
    _same("time_per_output_token_seconds", "ashore_time_per_token_seconds", "Mean per request, after its first token."),
    _same("request_time_per_output_token_seconds", "ashore_time_per_token_seconds", "The same, by its newer name."),
    _same("e2e_request_latency_seconds", "ashore_answer_seconds", "From arrival to the end of a generated answer."),
    _same("request_queue_time_seconds", "ashore_queue_seconds", "Wait for a slot."),
    _same("request_prefill_time_seconds", "ashore_prefill_seconds", "From the slot to the first token."),
    _same("request_decode_time_seconds", "ashore_decode_seconds", "From the first token to the last."),
    _same("request_inference_time_seconds", "ashore_inference_seconds", "From the slot to the last token."),
    _same("request_prompt_tokens", "ashore_prompt_length", "Tokens of a prompt."),
    _same("request_generation_tokens", "ashore_answer_length", "Tokens of an answer, all choices together."),
    _same("request_max_num_generation_tokens", "ashore_answer_length", "The same: choices are not told apart."),
)  # fmt: skip
"""`inter_token_latency_seconds` is left out: it takes an observation a token. Ashore measures the mean of a request."""

REASONS: Final = {"tool_calls": "stop", "cancelled": "abort"}
"""Reasons of ours that vLLM calls otherwise."""
_SAMPLE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{(.*)\} (\S+)")
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_PARTS: Final = ("_bucket", "_sum", "_count")


@dataclass(frozen=True, slots=True)
class _Sample:
    labels: dict[str, str]
    """As they are written: escaped."""
    value: float


@dataclass(slots=True)
class _Page:
    samples: dict[str, list[_Sample]] = field(default_factory=dict)

    def of(self, name: str) -> list[_Sample]:
        return self.samples.get(name, [])

    def sums(self, names: Iterable[str], by: str = "") -> dict[tuple[str, str], float]:
        """Return the sums by model, and by another label."""
        found: dict[tuple[str, str], float] = {}
        for name in names:
            for one in self.of(name):
                key = one.labels["model"], one.labels[by] if by else ""
                found[key] = found.get(key, 0.0) + one.value
        return found


def with_vllm_names(page: bytes, now_s: float) -> bytes:
    """Return a page of ours followed by vLLM's names."""
    read = _read(page.decode())
    lines: list[str] = []
    for row in VLLM_TABLE:
        lines += (f"# HELP vllm:{_whole(row)} {row.help}", f"# TYPE vllm:{_whole(row)} {row.kind}")
        lines += _MAKERS[row.how](row, read, now_s)
    return page + "".join(f"{line}\n" for line in lines).encode()


def _whole(row: Row) -> str:
    return f"{row.name}_total" if row.kind == "counter" else row.name


def _read(page: str) -> _Page:
    wanted = {name for row in VLLM_TABLE for source in row.of for name in _samples_of(row, source)}
    found = _Page()
    for line in page.splitlines():
        if line.partition("{")[0] in wanted and (match := _SAMPLE.fullmatch(line)) is not None:
            sample = _Sample(dict(_LABEL.findall(match[2])), float(match[3]))
            found.samples.setdefault(match[1], []).append(sample)
    return found


def _samples_of(row: Row, source: str) -> tuple[str, ...]:
    return tuple(source + part for part in _PARTS) if row.how == "histogram" else (source,)


def _line(name: str, model: str, more: Mapping[str, str], value: float) -> str:
    labels = {"model_name": model, "engine": "0", **more}
    written = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"vllm:{name}{{{written}}} {value!r}"


def _sum(row: Row, page: _Page, now_s: float) -> Iterator[str]:
    told: dict[tuple[str, str], float] = {}
    for (model, other), value in page.sums(row.of, row.by).items():
        key = model, REASONS.get(other, other)
        told[key] = told.get(key, 0.0) + value
    for (model, other), value in told.items():
        yield _line(_whole(row), model, {"finished_reason": other} if row.by else {}, value)


def _share(row: Row, page: _Page, now_s: float) -> Iterator[str]:
    used, whole = (page.sums([name]) for name in row.of)
    for (model, _), total in whole.items():
        if total > 0:
            yield _line(row.name, model, {}, used.get((model, ""), 0.0) / total)


def _histogram(row: Row, page: _Page, now_s: float) -> Iterator[str]:
    (source,) = row.of
    for part in _PARTS:
        for one in page.of(source + part):
            more = {"le": one.labels["le"]} if "le" in one.labels else {}
            yield _line(row.name + part, one.labels["model"], more, one.value)


def _blocks(row: Row, page: _Page, now_s: float) -> Iterator[str]:
    blocks, tokens = row.of
    totals = page.sums([tokens])
    for one in page.of(blocks):
        model, size = one.labels["model"], int(one.value)
        if size and (model, "") in totals:
            number = int(totals.pop((model, "")) // size)
            yield _line(row.name, model, {"block_size": str(size), "num_gpu_blocks": str(number)}, 1.0)


def _adapters(row: Row, page: _Page, now_s: float) -> Iterator[str]:
    loaded, active = row.of
    most: dict[str, float] = {}
    for one in page.of(loaded):
        most[one.labels["model"]] = max(most.get(one.labels["model"], 0.0), one.value)
    for model, number in most.items():
        if not number:
            continue
        more = {"max_lora": str(int(number))}
        for state in ("running", "waiting"):
            names = {
                one.labels["adapter"]
                for one in page.of(active)
                if (one.labels["model"], one.labels["state"]) == (model, state) and one.value
            }
            more[f"{state}_lora_adapters"] = ",".join(sorted(names))
        yield _line(row.name, model, more, now_s)


_MAKERS: Final[Mapping[How, Callable[[Row, _Page, float], Iterator[str]]]] = {
    "sum": _sum,
    "share": _share,
    "histogram": _histogram,
    "blocks": _blocks,
    "adapters": _adapters,
}
