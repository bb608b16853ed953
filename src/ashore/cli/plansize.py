"""`ashore plan size`: what to buy for a model, a load and a service level."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.cli.columns import say, table
from ashore.cli.sure import AsJson, print_json
from ashore.core.bytesize import human_bytes
from ashore.core.errors import InvalidRequest
from ashore.core.timespan import parse_seconds

if TYPE_CHECKING:
    from ashore.lab.sizing import Choice, Costs, Figure, Level, Load, Miss, Network, Option

ENGINES: Final = ("vllm", "sglang", "trtllm")
_PRECISION: Final = re.compile(
    r"bf16|fp16|fp32|(mx)?fp8|(mx|nv)?fp4|int8|w8a8|gptq-int8|int4|w4a8|w4a16|awq|gptq|q[48]\w*"
)
FAR_PERCENT: Final = 100
"""Error of what was published of a device, above which intervals are called too narrow."""
USUAL_CHIPS: Final = (
    "A100-80G",
    "H100",
    "H200",
    "H20-96G",
    "B200",
    "L20",
    "L40S",
    "RTX-4090",
    "MI300X",
    "Ascend-910B",
    "Ascend-910C",
    "Xeon-6980P",
    "Xeon-8480+",
    "EPYC-9654",
)


def size(
    model: str | None = None,
    /,
    *,
    rate: float | None = None,
    users: int | None = None,
    think: str = "30s",
    isl: float | None = None,
    osl: float | None = None,
    trace: Path | None = None,
    shared_prefix: float = 0.0,
    cached: float = 0.0,
    ttft: str | None = None,
    tpot: str | None = None,
    percentile: float = 95.0,
    chip: tuple[str, ...] = (),
    precision: tuple[str, ...] = (),
    engine: str = "vllm",
    most: int = 1024,
    prices: Path | None = None,
    years: float = 4.0,
    tariff: float = 0.12,
    top: int = 8,
    write: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Plan what to buy for a model: how many of which device, in which layout and precision, and what it will do.

    Every figure has an interval that four of five published measurements are in, and says what stands behind it. A
    load without lengths and a service level is refused.

    Args:
        model: Name (deepseek-r1, Qwen/Qwen3-32B), or a config.json, or the folder with it.
        rate: Requests a second at the busiest time.
        users: In place of a rate: people who ask, read the answer, and ask again.
        think: With users: from an answer to the next question.
        isl: Mean tokens of a prompt.
        osl: Mean tokens of an answer.
        trace: In place of rate and lengths: CSV of BurstGPT or Azure, or JSON lines with arrival_s, prompt_tokens and
            output_tokens. The rate is that of its busiest minute.
        shared_prefix: Tokens that prompts begin with alike; the engine computes them once.
        cached: Share of the requests that the answer cache answers, 0 to 0.99.
        ttft: Service level: time to the first token, such as 2s or 500ms.
        tpot: Service level: time for each further token, such as 50ms.
        percentile: Share of the requests, in percent, that get both.
        chip: Device that may be bought; repeat it; all: the whole catalogue. For devices that are there already, limit
            them with --most, and give a price of 0 in --prices.
        precision: bf16, fp8, int8, int4, fp4; repeat it. Default: what each device has units for.
        engine: vllm, sglang or trtllm, on accelerators.
        most: Devices that may be bought at most.
        prices: TOML file with prices of your own: "H20-96G" = 11000, in US dollars; 0: it is there already.
        years: In which machines are paid off.
        tariff: US dollars for a kWh.
        top: Options to print.
        write: Write an ashore.toml for the cheapest option.
    """
    from ashore.lab.sizing import Costs, Level, Load, choose, missing, priced, refuse_without

    if trace is not None:
        rate, isl, osl = _of_trace(trace)
    asked = {"MODEL": model, "--rate or --users": users if rate is None else rate, "--isl": isl, "--osl": osl}
    refuse_without(missing(asked, {"--ttft": ttft, "--tpot": tpot}))
    assert model is not None and isl is not None and osl is not None and ttft is not None and tpot is not None
    _check_words(precision, engine)
    if rate is not None and users is not None:
        raise InvalidRequest("give --rate or --users", hint="not both", param="--users")
    for name, value, least, limit in (
        ("--rate", rate or 1.0, 1e-4, 1e6),
        ("--users", users or 1, 1, 10**8),
        ("--isl", isl, 1, 2e6),
        ("--osl", osl, 1, 1e6),
        ("--shared-prefix", shared_prefix, 0, isl - 1),
        ("--cached", cached, 0, 0.99),
        ("--percentile", percentile, 50, 99.9),
        ("--most", most, 1, 10**6),
        ("--years", years, 0.1, 50),
        ("--tariff", tariff, 0, 100),
    ):
        if not least <= value <= limit:
            raise InvalidRequest(
                f"{name} is {value:g}; expected {least:g} to {limit:g}", hint="choose a value in that range", param=name
            )
    load = Load(
        requests_per_s=rate or 0.0,
        users=users or 0,
        think_s=parse_seconds(think),
        isl=isl,
        osl=osl,
        shared_tokens=shared_prefix,
        answered_from_cache=cached,
    )
    level = Level(first_s=_seconds("--ttft", ttft), token_s=_seconds("--tpot", tpot), percentile=percentile)
    costs = Costs(years=years, usd_per_kwh=tariff)
    network = _network(model)
    catalogue = priced(prices)
    names = tuple(catalogue) if chip == ("all",) else chip or USUAL_CHIPS
    found = choose(
        network,
        load,
        level,
        model=model,
        catalogue=[catalogue[_chip(name)] for name in names],
        precisions=precision,
        engine=engine,
        most_devices=most,
        costs=costs,
    )
    if write is not None and found.options:
        from ashore.lab.sizing.settings import ashore_toml

        write.write_text(ashore_toml(found.options[0], model=_name_in_toml(model), load=load), encoding="utf-8")
    if as_json:
        print_json(_plain(network, load, level, found))
        return
    if write is not None and found.options:
        print(f"{write} has the ashore.toml of the cheapest", file=sys.stderr)
    _show(network, load, level, found, top, costs, asked=model)


def _check_words(precisions: Sequence[str], engine: str) -> None:
    for word in precisions:
        if not _PRECISION.fullmatch(word.lower()):
            raise InvalidRequest(
                f"--precision is {word[:40]!r}", hint="choose of bf16, fp8, int8, int4, fp4", param="--precision"
            )
    if engine not in ENGINES:
        raise InvalidRequest(f"--engine is {engine[:40]!r}", hint=f"choose of {', '.join(ENGINES)}", param="--engine")


def _name_in_toml(model: str) -> str:
    """Return how ashore.toml names a model: lower case for the catalogue, ORG/NAME for a hub."""
    path = Path(model)
    if path.exists():
        return str((path if path.is_dir() else path.parent).resolve())
    return f"hf:{model}" if model.count("/") == 1 and ":" not in model else model.lower()


def _network(model: str) -> Network:
    from ashore.lab.sizing import find_network, network_of_config

    path = Path(model)
    config = path / "config.json" if path.is_dir() else path
    if config.is_file():
        return network_of_config(config)
    network = find_network(model)
    if network is None:
        raise InvalidRequest(
            f"no model is known as {model[:80]!r}",
            hint="give its config.json, or a name with its size: acme-14b, acme-120b-a12b",
            param="MODEL",
        )
    return network


def _chip(name: str) -> str:
    from ashore.lab.sizing import find_chip

    if counted := re.fullmatch(r"(\d+)\s*[x×*]\s*(.+)", name.strip()):
        raise InvalidRequest(
            f"--chip is {name[:60]!r}; a device is named without a number",
            hint=f'--chip "{counted[2][:40]}" --most {counted[1]} plans with {counted[1]} at most',
            param="--chip",
        )
    return find_chip(name).name


def _seconds(option: str, text: str) -> float:
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*ms", text.strip()):
        seconds = float(found[1]) / 1e3
    else:
        try:
            seconds = parse_seconds(text)
        except InvalidRequest as fault:
            raise InvalidRequest(f"{option}: {fault.message}", hint="write 50ms or 2s", param=option) from fault
    if seconds <= 0:
        raise InvalidRequest(f"{option} is {text}; expected more than nothing", hint="such as 50ms or 2s", param=option)
    return seconds


def _of_trace(path: Path) -> tuple[float, float, float]:
    """Return the request rate of a trace's busiest minute, and its mean lengths."""
    from ashore.data.dispatch import read_trace

    requests = read_trace(path, deadline_s=30.0)
    arrivals = sorted(one.arrival_s for one in requests)
    busiest, first = 1, 0
    for last, at in enumerate(arrivals):
        while at - arrivals[first] > 60.0:
            first += 1
        busiest = max(busiest, last - first + 1)
    seconds = min(60.0, max(arrivals[-1] - arrivals[0], 1.0))
    prompts = sum(one.prompt_tokens for one in requests) / len(requests)
    answers = sum(one.output_tokens for one in requests) / len(requests)
    return busiest / seconds, max(1.0, prompts), max(1.0, answers)


def _show(network: Network, load: Load, level: Level, found: Choice, top: int, costs: Costs, *, asked: str) -> None:
    asks = f"{load.users:,} users" if load.users else f"{load.requests_per_s:g} requests/s"
    active = f", {network.active / 1e9:.3g} active" if network.shape.num_experts else ""
    of = "" if asked.lower().rpartition("/")[2] == network.name else f"{asked[-80:]}, of the shape of "
    say(
        f"{of}{network.name}: {network.parameters / 1e9:.3g} billion parameters{active}"
        f"{'' if network.known else '; its shape is guessed from its size'}"
    )
    say(
        f"{asks} of {load.isl:g} + {load.osl:g} tokens; first token in {level.first_s:g} s, each further one in "
        f"{1e3 * level.token_s:g} ms, for {level.percentile:g} % of them\n"
    )
    if not found.options:
        say("nothing of what may be bought serves this load")
    else:
        _options(found.options[:top])
        if len(found.options) > top:
            say(f"{len(found.options) - top} more are dearer: --top {len(found.options)} shows them")
        _best(found.options[0])
        _evidence(network, found.options[0])
    for one in found.refused:
        say(f"not: {one.chip} {one.precision}: {one.why}")
    if found.options:
        _reading(found.options[0], costs)
    _errors(found.options[:top])


def _reading(one: Option, costs: Costs) -> None:
    """Print what the figures include and omit, because a purchase depends on both."""
    say(
        f"\nto buy: the price of the devices and {costs.host_share:.0%} more for the machines around them. $/M tokens: "
        f"this over {costs.years:g} years, and {costs.usd_per_kwh:g} $/kWh, at the load above all day long; brackets "
        "hold the error in speed, not that of the price. 16: BF16 or FP16."
    )
    say(
        "served by: vLLM with ashore in front of it (docs/how-to/serve-with-vllm.md); `ashore model pull` takes every "
        "architecture that has a tokenizer.json"
    )
    if one.replicas == 1:
        say(f"no spare: with one replica nothing answers while it is down; another one costs {one.usd:,.0f} more")


def _options(options: tuple[Option, ...]) -> None:
    head = (
        "what",
        "layout",
        "devices",
        "first token",
        "a token",
        "req/s each",
        "$/M tokens",
        "$ to buy",
        "kW",
        "trust",
    )
    rows = [
        (
            f"{one.chip.name} {one.precision.name}",
            f"tp{one.tp}{f' ep{one.ep}' if one.ep > 1 else ''} x{one.replicas}",
            f"{one.devices.value:.0f} ({one.devices.low:.0f}-{one.devices.high:.0f})",
            _milliseconds(one.first_s),
            _milliseconds(one.token_s),
            f"{one.requests_per_s.value:.3g}",
            f"{one.usd_per_million.value:.2f} ({one.usd_per_million.low:.2f}-{one.usd_per_million.high:.2f})",
            f"{one.usd:,.0f}",
            f"{one.watts / 1e3:.1f}",
            one.trust,
        )
        for one in options
    ]
    table(head, rows, names=2)


def _milliseconds(figure: Figure) -> str:
    return f"{1e3 * figure.value:.0f} ({1e3 * figure.low:.0f}-{1e3 * figure.high:.0f}) ms"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _best(one: Option) -> None:
    from ashore.lab.sizing import shipped, words_of

    between = f", {one.network_gbit_s:g} Gbit/s between them" if one.network_gbit_s else ""
    say(
        f"\ncheapest: {one.devices.value:.0f} x {one.chip.name} in {_count(one.machines, 'machine')}{between}; "
        f"{_count(one.replicas, 'replica')} of {_count(one.tp, 'device')}, each with {one.at_once} requests at once "
        f"and cache for {one.kv_tokens:,} tokens; limited by {one.bottleneck}"
    )
    say(
        f"each machine: {human_bytes(one.ram_bytes)} of memory, {human_bytes(one.disk_bytes)} of disk; weights "
        f"{human_bytes(one.weight_bytes)}; {one.watts / 1e3:.1f} kW in all"
    )
    say(f"trust: {one.trust}: {words_of(one.trust)}. {one.chip.source}.")
    missed = shipped().misses["hardware"].get(one.chip.name)
    if missed and max(missed.first_percent or 0, missed.token_percent or 0, missed.speed_percent or 0) > FAR_PERCENT:
        say(
            f"warning: a fit that had seen no {one.chip.name} missed what was published of it by more than "
            f"{FAR_PERCENT} %; trust the intervals only where the evidence below has your model"
        )
    say(f"price of one: {one.chip.usd:,.0f} dollars, {one.chip.price}; give your own with --prices")


def _evidence(network: Network, one: Option) -> None:
    """Cite published results for this model and device, or for the most similar ones."""
    from ashore.lab.sizing import shipped

    say("\nevidence: the nearest published measurements, and the median errors when they were left out of the fit")
    rows = [
        (
            f"{known.model} on {known.device}",
            str(known.num_points),
            *_percents(miss),
            ", ".join(f"{engine} {number}" for engine, number in known.engines.items()),
            known.sources[0],
        )
        for known, miss in shipped().evidence(network, one.chip)
    ]
    table(("published", "points", "first token", "a token", "throughput", "engines", "most of it in"), rows, names=1)


def _percents(miss: Miss | None) -> tuple[str, str, str]:
    values = (miss.first_percent, miss.token_percent, miss.speed_percent) if miss else (None, None, None)
    first, token, speed = ("-" if value is None else f"{value:g} %" for value in values)
    return first, token, speed


def _errors(shown: Sequence[Option]) -> None:
    from ashore.lab.sizing import HELD_OUT, shipped

    using = shipped()
    say(
        f"\nThe planner was fitted to {using.fitted_on}. Median errors on what was held out of the fit; most "
        "measurements were held out several times, by themselves and with others:"
    )
    rows = [(words, using.overall[kind]) for kind, words in HELD_OUT.items()]
    names = {one.chip.name for one in shown}
    rows += [(f"  {name}", miss) for name, miss in using.misses["hardware"].items() if name in names]
    table(
        ("held out", "times", "first token", "a token", "throughput"),
        [(name, str(miss.num_points), *_percents(miss)) for name, miss in rows],
        names=1,
    )


def _plain(network: Network, load: Load, level: Level, found: Choice) -> dict[str, object]:
    from ashore.lab.sizing import shipped

    using = shipped()

    def cited(one: Option) -> list[dict[str, object]]:
        known = using.evidence(network, one.chip)
        return [asdict(published) | {"errors": asdict(miss) if miss else None} for published, miss in known]

    return {
        "model": network.name,
        "parameters": round(network.parameters),
        "active_parameters": round(network.active),
        "shape_known": network.known,
        "load": asdict(load),
        "level": asdict(level),
        "options": [asdict(one) | {"name": one.name, "evidence": cited(one)} for one in found.options],
        "refused": [asdict(one) for one in found.refused],
        "errors": {
            "held_out": {name: asdict(miss) for name, miss in using.overall.items()},
            "hardware": {name: asdict(miss) for name, miss in using.misses["hardware"].items()},
            "family": {name: asdict(miss) for name, miss in using.misses["family"].items()},
        },
        "fitted_on": using.fitted_on,
    }
