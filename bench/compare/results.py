"""What was measured, as plain data; the report, the picture and the JSON file are made from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import geometric_mean, median


@dataclass(frozen=True)
class Comparison:
    """The seconds that each side took for the same work.

    Parameters
    ----------
    name, description : str
    seconds : dict
        Of a step or a call, by side; "fastmlp" is one of them, the others are its peers.
    flops : float, optional
        Floating-point operations of that work.
    target : float, optional
        Of the ratio to the best peer.
    target_seconds : float, optional
        What fastmlp should take at most.
    """

    name: str
    description: str
    seconds: dict[str, float]
    flops: float | None = None
    target: float | None = None
    target_seconds: float | None = None

    @property
    def peers(self) -> list[str]:
        return [side for side in self.seconds if side != "fastmlp"]

    @property
    def best_peer(self) -> str | None:
        """The fastest peer; None if there is none."""
        return min(self.peers, key=self.seconds.__getitem__, default=None)

    @property
    def best_ratio(self) -> float | None:
        """The ratio to the fastest peer."""
        return None if self.best_peer is None else self.ratio(self.best_peer)

    @property
    def flops_per_second(self) -> float | None:
        """The speed of fastmlp."""
        return None if self.flops is None else self.flops / self.seconds["fastmlp"]

    def ratio(self, peer: str) -> float | None:
        """Return a peer's time divided by fastmlp's: below 1 where fastmlp is slower. None if it was not measured."""
        return self.seconds[peer] / self.seconds["fastmlp"] if peer in self.seconds else None


def mean_ratio(comparisons: Iterable[Comparison], peer: str | None = None) -> float | None:
    """Return the geometric mean of the ratios to a peer, or to the best peer of each; None if there are none."""
    ratios = [case.best_ratio if peer is None else case.ratio(peer) for case in comparisons]
    known = [ratio for ratio in ratios if ratio is not None]
    return geometric_mean(known) if known else None


@dataclass(frozen=True)
class Products:
    """One form of the matrix product on a number of threads, over all shapes."""

    form: str
    threads: int
    comparisons: list[Comparison]


@dataclass(frozen=True)
class Scaling:
    """The seconds of a training step on different numbers of threads; `target` is for most threads against one."""

    name: str
    description: str
    seconds: dict[int, float]
    target: float

    @property
    def speed_up(self) -> float:
        return self.seconds[1] / self.seconds[max(self.seconds)]


@dataclass(frozen=True)
class Memory:
    """Bytes of a process that imports fastmlp and trains."""

    imports: int
    data: int
    parameters: int
    optimizer_state: int
    kernels: int  # grown by the first training of all, which loads the compiled kernels
    peak: int

    @property
    def overhead(self) -> int:
        """What training takes over all of them but the kernels."""
        return self.peak - self.imports - self.data - self.parameters - self.optimizer_state


@dataclass(frozen=True)
class Start:
    """Seconds in fresh processes; `memory` is None where the system does not tell."""

    imports: dict[str, float]  # by side
    first_fit_empty_cache: float  # import included
    first_fit_warm_cache: float
    memory: Memory | None


@dataclass(frozen=True)
class AccuracyRun:
    """One training run: seconds of training until the accuracy was reached, None if it was not."""

    side: str
    seed: int
    seconds: float | None
    final_accuracy: float


@dataclass(frozen=True)
class TimeToAccuracy:
    """The runs of all sides and seeds."""

    description: str
    goal: float
    runs: list[AccuracyRun]

    def typical_seconds(self, side: str) -> float | None:
        """Return the median over the seeds; None if the accuracy was missed with one of them."""
        seconds = [run.seconds for run in self.runs if run.side == side]
        reached = [value for value in seconds if value is not None]
        return median(reached) if reached and len(reached) == len(seconds) else None


@dataclass(frozen=True)
class Peak:
    """Floating-point operations a second of fused multiply-adds on registers, the limit of the machine."""

    one: float
    all: float

    def best_of(self, other: Peak) -> Peak:
        return Peak(max(self.one, other.one), max(self.all, other.all))


@dataclass
class Results:
    """All that a run measured; a section that was left out is empty or None."""

    date: str
    command: str  # that measures the same again
    quick: bool  # too short for figures
    machine: dict[str, str]
    versions: dict[str, str]
    missing: list[str]  # peers that are not installed
    peers: dict[str, str] = field(default_factory=dict)  # those that took part: name -> how it is written
    peak: Peak | None = None
    headline: list[Comparison] = field(default_factory=list)
    further: list[Comparison] = field(default_factory=list)
    prediction: list[Comparison] = field(default_factory=list)
    products: list[Products] = field(default_factory=list)
    threads: list[Scaling] = field(default_factory=list)
    start: Start | None = None
    mnist: TimeToAccuracy | None = None
