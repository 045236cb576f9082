"""The picture: bars of how many times as long each peer takes to train the headline networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .results import Comparison

# Okabe and Ito's colours, which most people can tell apart.
COLOURS = {"numpy": "#0072b2", "torch": "#e69f00", "jax": "#009e73", "sklearn": "#cc79a7"}
BAR = 0.8  # share of a network's row that its bars fill


def draw(cases: list[Comparison], labels: Mapping[str, str], machine: str, path: Path) -> None:
    """Draw the ratios of all peers to a file; the format is that of its suffix.

    Parameters
    ----------
    cases : list of Comparison
    labels : mapping
        The peers to draw, and how they are written.
    machine : str
        For the title.
    path : Path

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    with matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}):
        figure = Figure(figsize=(8, 1.2 + 0.17 * len(cases) * (len(labels) + 1)), layout="constrained",
                        facecolor="white")
        axes = figure.add_subplot()
        height = BAR / len(labels)
        for place, (peer, label) in enumerate(labels.items()):
            measured = [(row, ratio) for row, case in enumerate(cases) if (ratio := case.ratio(peer)) is not None]
            rows = [row - BAR / 2 + (place + 0.5) * height for row, _ in measured]
            ratios = [ratio for _, ratio in measured]
            # Bars of a log scale stand on the line at 1, to both sides.
            bars = axes.barh(rows, [ratio - 1 for ratio in ratios], height, left=1, color=COLOURS[peer], label=label)
            axes.bar_label(bars, [f"{ratio:.3g}" for ratio in ratios], padding=2, fontsize=7)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}x"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.1, y=0.02)
        axes.axvline(1, color="black", linewidth=1)
        axes.set_yticks(range(len(cases)), [f"{case.name}\n{case.description}" for case in cases])
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        figure.suptitle(f"Time of a training step, relative to fastmlp: {machine}")
        axes.set_xlabel("right of the line fastmlp is faster, left of it slower")
        figure.legend(loc="outside lower center", ncols=len(labels), frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
