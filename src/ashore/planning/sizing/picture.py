"""Latency against throughput of some options, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from ashore.planning.sizing.choose import Option, curve
from ashore.planning.sizing.networks import Network
from ashore.planning.sizing.wish import Level, Load


def draw(network: Network, load: Load, level: Level, options: Sequence[Option]) -> bytes:
    """Return an SVG: for each option a line over the requests at once, with the band of its interval, and the level."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for option in options:
        points = list(curve(network, load, option))
        speed = [each.value for _, _, _, each in points]
        (line,) = axes.plot(
            speed,
            [1e3 * token.value for _, _, token, _ in points],
            marker="o",
            markersize=3,
            label=f"{option.chip.name} {option.precision.name} tp{option.tp} ({option.trust})",
        )
        axes.fill_between(
            speed,
            [1e3 * token.low for _, _, token, _ in points],
            [1e3 * token.high for _, _, token, _ in points],
            alpha=0.12,
            color=line.get_color(),
        )
    axes.axhline(1e3 * level.token_s, color="black", linestyle="--", linewidth=1, label="service level")
    axes.set_xlabel("output tokens/s of one device")
    axes.set_ylabel("ms for each token")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both")
    axes.set_title(f"{network.name}, {load.isl:g} + {load.osl:g} tokens; bands hold 80 % of measurements", fontsize=10)
    axes.legend(fontsize=8)
    written = BytesIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()
