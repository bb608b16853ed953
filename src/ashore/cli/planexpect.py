"""Speed estimates of `ashore up --dry-run` for each model on this machine."""

from __future__ import annotations

from ashore.core.errors import InvalidRequest
from ashore.data.engines import Plan
from ashore.kit.settings import Settings

PROMPT, ANSWER = 512, 128
"""Tokens of the request that is planned: a question with some text, and a paragraph."""
_PRECISION = {"": "bf16", "int8": "int8", "int4": "int4"}


def expected_of(plan: Plan, settings: Settings) -> tuple[str, ...]:
    """Return a line for each model that computes on this machine's processor; none where its shape is not known.

    The figures are by `ashore plan calibrate` where it has measured this machine, else by published measurements of
    other processors, which the line says.
    """
    from ashore.lab.sizing.here import chip_here, measure_rates
    from ashore.lab.sizing.own import Measured, case_of, expect, read_own

    own = read_own(settings.home.plan)
    seen = None
    lines = []
    for model in plan.models:
        if model.options.kind not in ("openvino", "llamacpp") or model.embedder:
            continue
        engine = "openvino" if model.options.kind == "openvino" else "llama.cpp"
        known = own if own is not None and own.engine == engine else None
        precision = next((word for word in ("int4", "int8") if word in model.variant), "")
        asked = [
            Measured(isl=PROMPT, osl=ANSWER, load=load, load_kind="closed", first_s=1.0, token_s=1.0, tokens_per_s=1.0)
            for load in (1.0, 8.0)
        ]
        seen = seen if seen or known else measure_rates()
        chip = chip_here(rates=known.rates if known else seen)
        try:
            cases = [
                case_of(one, chip, model=model.name, engine=engine, precision=_PRECISION[precision]) for one in asked
            ]
        except InvalidRequest:
            continue  # unknown shape: no estimate
        said = expect(cases, known)
        how = (
            f"estimated from {known.num_reports} load tests of this machine"
            if known
            else "estimated from other processors and from what this one does right now; `ashore plan calibrate` "
            "learns from load tests"
        )
        alone, many = said.value
        lines.append(
            f"{model.alias}: for a prompt of {PROMPT} tokens and {ANSWER} of answer, expect the first token after "
            f"{1e3 * alone[0]:.0f} ms ({1e3 * said.low[0, 0]:.0f} to {1e3 * said.high[0, 0]:.0f}), {1 / alone[1]:.0f} "
            f"tokens/s for one request, {many[2]:.0f} for eight at once; {how}"
        )
    return tuple(lines)
