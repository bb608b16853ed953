"""`ashore train`: teach a stored model from examples."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from cyclopts import App

from ashore.cli.operations import operation_command
from ashore.cli.sure import OwnJson, print_json
from ashore.cli.trainprivate import private
from ashore.core.bytesize import human_bytes
from ashore.core.timespan import human_moment, parse_seconds

if TYPE_CHECKING:
    from ashore.lab.training import LogLine, RunFigures

app = App(name="train", help="Fine-tune a model on your own examples: adapters or all weights.")


app.command(operation_command("train sft"), name="sft")
app.command(private)


@app.command
def log(
    run: str = "",
    /,
    *,
    grep: str = "",
    since: str = "",
    archive: str = "",
    older_than: str = "",
    as_json: OwnJson = False,
) -> None:
    """Show and search the logs of training runs: loss, rate, throughput, waits, stalls and memory of every step.

    Without a name, all runs in figures. Logs stay when a run ends.

    Args:
        run: Name of the run, which is the name of its result.
        grep: Only lines with this word, such as begin, stop or "step":120.
        since: Only what is not older, such as 2h or 7d.
        archive: s3://BUCKET/PATH of archived logs; they are searched too.
        older_than: With --archive: move logs whose last line is older than this into the bucket first, such as 30d.
        as_json: Print JSON: a line for each step, or the figures of all runs.
    """
    from ashore.kit.settings import read_settings
    from ashore.lab.training import LogBucket, RunLogs

    logs = RunLogs(read_settings().home.logs / "training", LogBucket(archive) if archive else None)
    now_s = time.time()
    if older_than:
        for name in logs.archive(older_than_s=parse_seconds(older_than), now_s=now_s):
            print(f"archived {name}", file=sys.stderr)
    if not run and not grep and not since:
        found = [logs.figures(name) for name in logs.runs()]
        if as_json:
            print_json(found)
        for one in () if as_json else found:
            print(_figures(one))
        return
    for line, raw in logs.lines(run, pattern=grep, since_s=now_s - parse_seconds(since) if since else 0.0):
        print(raw.decode() if as_json else _line(line))


def _figures(one: RunFigures) -> str:
    memory = human_bytes(one.peak_memory_bytes)
    return (
        f"{one.run}: {one.state} at step {one.steps:,} of {one.num_steps:,}, loss {one.loss_first:.3f} -> "
        f"{one.loss_last:.3f}, rate {one.learning_rate:.2g}, {one.tok_per_s:.0f} tokens/s, waiting for data "
        f"{one.data_wait_share:.1%}, for checkpoints {one.stall_share:.1%}, at most {memory}, begun "
        f"{human_moment(one.begun_at)}"
    )


def _line(line: LogLine) -> str:
    if line.what != "step":
        return f"{human_moment(line.at)}  {line.run}  {line.what}  {line.text}"
    return (
        f"{human_moment(line.at)}  {line.run}  step {line.step:,} of {line.num_steps:,}  loss {line.loss:.4f}  rate "
        f"{line.learning_rate:.2g}  {line.tok_per_s:.0f} tokens/s  data {line.data_wait_s:.3f} s  checkpoint "
        f"{line.stall_s:.3f} s  {human_bytes(line.memory_bytes)}"
    )
