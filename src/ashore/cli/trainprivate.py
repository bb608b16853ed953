"""`ashore train private`: an adapter that reveals almost nothing about any one example, or of any one person."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from cyclopts import Parameter

from ashore.cli.progress import TerminalProgress
from ashore.cli.recorded import owner
from ashore.cli.sure import AsJson
from ashore.core.errors import AshoreError, InvalidRequest
from ashore.kit.decode import convert

if TYPE_CHECKING:
    from ashore.lab.training import PrivateOptions

Flag = Annotated[bool, Parameter(negative=())]
SHOWN = (0.5, 1.0, 2.0)
"""Values of epsilon whose noise a dry run shows beside the one that was asked for."""


def private(
    model: str,
    /,
    *,
    data: str,
    budget: str,
    num_examples: Annotated[int, Parameter(name=("--num-examples", "--num-people"))],
    unit: Literal["example", "person"] = "example",
    person: str = "user",
    epsilon: float = 1.0,
    delta: float = 0.0,
    steps: int = 100,
    batch: int = 0,
    tenant: str = "default",
    name: str = "",
    rank: int = 4,
    learning_rate: Annotated[float, Parameter(name=("--learning-rate", "--lr"))] = 1e-3,
    clip: float = 1.0,
    max_length: int = 1024,
    dry_run: Flag = False,
    as_json: AsJson = False,
) -> int:
    """Train an adapter with differential privacy (DP-SGD), paid from the privacy budget of a dataset.

    Somebody who gets the adapter, or asks the model with it, learns almost nothing of any one example; with --unit
    person, of any one person, however many examples that person has. A long text that is split counts as several
    examples. The run is paid in full before its first step, and a run that is cut off stays paid. It has no seed and
    shows no loss.

    Args:
        model: Name in the store.
        data: Examples to learn from; see docs/reference/training-data.md.
        budget: Dataset whose budget pays; see `ashore privacy budget list`.
        num_examples: How many examples there are, or people with --unit person, at least. This is public: a round
            number below the truth.
        unit: Whom the promise is made to. person: all examples of a person together count as one.
        person: Field of each document that names the person, for --unit person. Examples without it are left out.
        epsilon: Privacy loss of the run, in nats.
        delta: Probability that the promise does not hold; default: a tenth of one by --num-examples.
        steps: Steps of the run.
        batch: Examples or people of a step, on average; default: a tenth of --num-examples, at most 256. Larger ones
            need less noise.
        tenant: Tenant of the dataset.
        name: Name of the adapter; default: MODEL-private.
        rank: Rank of the adapter. Smaller ones get less noise.
        learning_rate: Learning rate of Adam.
        clip: Longest gradient of one example or person.
        max_length: Longest example, in tokens.
        dry_run: Show the noise that this epsilon needs, and what others would; pay and train nothing.
    """
    from ashore.cli import bootstrap
    from ashore.control.ledger import training_noise
    from ashore.kit.settings import read_settings
    from ashore.lab.training import FEW_UNITS, PrivateOptions, SftRequest, run_private

    if num_examples < 1 or epsilon <= 0:
        raise InvalidRequest(
            f"--num-examples {num_examples}, --epsilon {epsilon:g}", hint="both are above 0; epsilon 0.5 to 2 is usual"
        )
    units = "people" if unit == "person" else "examples"
    delta = delta or 1 / (10 * num_examples)
    expected = batch or max(1, min(256, num_examples // 10))
    rate = expected / num_examples
    asked = sorted({*SHOWN, epsilon}) if dry_run else [epsilon]
    shown = {one: training_noise(one, delta, min(1.0, rate), steps) for one in asked}
    options = PrivateOptions(
        steps=steps,
        num_units=num_examples,
        expected_batch=expected,
        noise=shown[epsilon],
        clip=clip,
        learning_rate=learning_rate,
    ).checked()
    if num_examples < FEW_UNITS:
        print(
            f"warning: with {num_examples:,} {units} the noise is likely to outweigh what is learnt; private training "
            f"pays from some {FEW_UNITS:,} on",
            file=sys.stderr,
        )
    if dry_run:
        _show(shown, epsilon, options, delta, units, as_json=as_json)
        return 0
    settings = read_settings()
    store = bootstrap.build_store(settings.home, settings)
    say = partial(print, file=sys.stderr)
    asked_of = {
        "model": model, "data": data, "rank": rank, "name": name or f"{model}-private", "max_length": max_length,
        "person": person if unit == "person" else "",
    }  # fmt: skip
    request = convert(asked_of, SftRequest)
    plan = bootstrap.plan_sft(settings.home, store, request, say=say, told=lambda stage, done, total: None)
    done = 0
    with (
        bootstrap.open_ledger(settings) as ledger,
        TerminalProgress() as progress,
        ledger.reserved(
            owner(),
            tenant,
            budget,
            "training",
            ledger.training_cost(epsilon, delta),
            what=f"{plan.name}: {steps} steps of {expected} of {num_examples} {units}, noise {options.noise:.3f}",
        ) as reservation,
    ):

        def watch(step: int) -> None:
            nonlocal done
            done = step
            progress.steps("train", step, steps, f"step {step:,} of {steps:,}")

        try:
            report = run_private(
                store,
                plan,
                options,
                epsilon=epsilon,
                delta=delta,
                adapters=settings.home.adapters,
                say=say,
                watch=watch,
            )
        except AshoreError:
            if not done:
                reservation.release()  # no noise was drawn, and nothing was published
            raise
    if as_json:
        print(msgspec.json.encode(asdict(report)).decode())
    else:
        print(f"{report.name}: {report.steps} steps, epsilon {epsilon:g}, delta {delta:.2g}, noise {report.noise:.3f}")
        print(f"the adapter is in {report.folder}")
    return 0


def _show(
    shown: dict[float, float], asked: float, options: PrivateOptions, delta: float, units: str, *, as_json: bool
) -> None:
    if as_json:
        noise_by = {str(epsilon): noise for epsilon, noise in shown.items()}
        told = {"delta": delta, "unit": units, "rate": options.rate, "steps": options.steps, "noise": noise_by}
        print(msgspec.json.encode(told).decode())
        return
    print(f"{options.steps} steps of {options.expected_batch:,} of {options.num_units:,} {units}, delta {delta:.2g}")
    for epsilon, noise in shown.items():
        # The noise of a step against the sum of its gradients, each clipped to the same length and all of one mind.
        share = noise / options.expected_batch
        mark = "  <- asked for" if epsilon == asked else ""
        print(f"  epsilon {epsilon:<4g} noise {noise:6.2f}, {100 * share:.1f} % of a step where all agree{mark}")
