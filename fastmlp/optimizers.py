"""Optimizers: plain data that names an update rule of the kernels and holds its constants.

The formulas and their sources are in `fastmlp.kernels.updates`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .kernels import updates as codes
from .validation import check_flag, check_integer, check_number


@dataclass(frozen=True)
class Optimizer:
    """Base class: the code of the update in the kernels and its settings, two decay rates and an epsilon."""

    code: ClassVar[int]

    @property
    def slots(self) -> int:
        """Number of state vectors, each as long as the parameters."""
        return codes.STATE_SLOTS[self.code]

    def settings(self) -> tuple[float, float, float, float]:
        """Return what the kernels take: two decay rates, epsilon, whether that is Adam's epsilon hat; 0 for none."""
        return 0.0, 0.0, 0.0, 0.0

    @property
    def weight_decay(self) -> float:
        """Decay of the weights apart from the gradient; 0 but for AdamW."""
        return 0.0

    def _check(self, name: str, low: float, high: float = math.inf, *, below: bool = False) -> None:
        """Check the number in a field, and keep it as a plain float."""
        object.__setattr__(self, name, check_number(name, getattr(self, name), low, high, below=below))

    def _check_decay(self, name: str) -> None:
        self._check(name, 0.0, 1.0, below=True)

    def _check_epsilon(self) -> None:
        self._check("epsilon", 1e-16, 1e3)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: w <- w - r g."""

    code: ClassVar[int] = codes.SGD


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Gradient descent with momentum: v <- mu v - r g; w <- w + v (Polyak, 1964).

    Parameters
    ----------
    momentum : float
        mu, from 0 to 1; default 0.9.
    """

    momentum: float = 0.9
    code: ClassVar[int] = codes.MOMENTUM

    def __post_init__(self) -> None:
        self._check("momentum", 0.0, 1.0)

    def settings(self) -> tuple[float, float, float, float]:
        """Return what the kernels take, see `Optimizer.settings`."""
        return self.momentum, 0.0, 0.0, 0.0


@dataclass(frozen=True)
class Nesterov(Momentum):
    """Nesterov's accelerated gradient: v <- mu v - r g; w <- w + mu v - r g (Sutskever et al., 2013).

    Parameters
    ----------
    momentum : float
        mu, from 0 to 1; default 0.9.
    """

    code: ClassVar[int] = codes.NESTEROV


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; w <- w - r m' / (sqrt(v') + epsilon).

    m' = m / (1 - b1^t) and v' = v / (1 - b2^t) in update number t (Kingma and Ba, 2015, algorithm 1).

    Parameters
    ----------
    beta_1, beta_2 : float
        Decay rates of the first and second moment, at least 0 and below 1; default 0.9 and 0.999.
    epsilon : float
        Added to the square root of the second moment, from 1e-16 to 1e3; default 1e-8.
    epsilon_hat : bool
        Whether epsilon is added to sqrt(v) instead of sqrt(v'), as Keras and scikit-learn do ("epsilon hat" in
        section 2 of the paper); default False.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = field(default=False, kw_only=True)
    code: ClassVar[int] = codes.ADAM

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon_hat", check_flag("epsilon_hat", self.epsilon_hat))
        self._check_decay("beta_1")
        self._check_decay("beta_2")
        self._check_epsilon()

    def settings(self) -> tuple[float, float, float, float]:
        """Return what the kernels take, see `Optimizer.settings`."""
        return self.beta_1, self.beta_2, self.epsilon, float(self.epsilon_hat)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam after w <- w - r weight_decay w, with r the learning rate as scheduled (Loshchilov and Hutter, 2019).

    Weights decay, biases do not.

    Parameters
    ----------
    beta_1, beta_2 : float
        Decay rates of the first and second moment, at least 0 and below 1; default 0.9 and 0.999.
    epsilon : float
        Added to the square root of the second moment, from 1e-16 to 1e3; default 1e-8.
    epsilon_hat : bool
        As in `Adam`.
    weight_decay : float
        At least 0; default 0.01.
    """

    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("weight_decay", 0.0)


@dataclass(frozen=True)
class NAdam(Adam):
    """Adam with Nesterov's momentum (Dozat, 2016), as PyTorch has it.

    m and v as in Adam; w <- w - r ((1 - mu_t) / (1 - p_t) g + mu_(t+1) / (1 - p_(t+1)) m) / (sqrt(v') + epsilon) with
    mu_t = beta_1 (1 - 0.96^(0.004 t) / 2), p_t = mu_1 mu_2 ... mu_t, v' = v / (1 - b2^t) in update number t.

    Parameters
    ----------
    beta_1, beta_2 : float
        Decay rates of the first and second moment, at least 0 and below 1; default 0.9 and 0.999.
    epsilon : float
        Added to the square root of the second moment, from 1e-16 to 1e3; default 1e-8.
    epsilon_hat : bool
        As in `Adam`.
    """

    code: ClassVar[int] = codes.NADAM


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad: s <- s + g^2; w <- w - r g / (sqrt(s) + epsilon) (Duchi, Hazan and Singer, 2011).

    Parameters
    ----------
    epsilon : float
        Added to the square root of the sum of squares, from 1e-16 to 1e3; default 1e-10.
    """

    epsilon: float = 1e-10
    code: ClassVar[int] = codes.ADAGRAD

    def __post_init__(self) -> None:
        self._check_epsilon()

    def settings(self) -> tuple[float, float, float, float]:
        """Return what the kernels take, see `Optimizer.settings`: no decay rates."""
        return 0.0, 0.0, self.epsilon, 0.0


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Adadelta: s <- rho s + (1 - rho) g^2; d = g sqrt(u + epsilon) / sqrt(s + epsilon); w <- w - r d.

    u <- rho u + (1 - rho) d^2 is the mean square of the changes (Zeiler, 2012, algorithm 1, where r is 1).

    Parameters
    ----------
    rho : float
        Decay rate of the mean squares, at least 0 and below 1; default 0.9.
    epsilon : float
        Added to the mean squares, from 1e-16 to 1e3; default 1e-6.
    """

    rho: float = 0.9
    epsilon: float = 1e-6
    code: ClassVar[int] = codes.ADADELTA

    def __post_init__(self) -> None:
        self._check_decay("rho")
        self._check_epsilon()

    def settings(self) -> tuple[float, float, float, float]:
        """Return what the kernels take, see `Optimizer.settings`: the second decay rate."""
        return 0.0, self.rho, self.epsilon, 0.0


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop: s <- decay s + (1 - decay) g^2; v <- momentum v + g / (sqrt(s) + epsilon); w <- w - r v.

    The rule of Tieleman and Hinton (2012), with epsilon and momentum as PyTorch has them.

    Parameters
    ----------
    decay : float
        Decay rate of the mean square, at least 0 and below 1; default 0.99.
    epsilon : float
        Added to the square root of the mean square, from 1e-16 to 1e3; default 1e-8.
    momentum : float
        At least 0 and below 1; default 0.
    """

    decay: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0
    code: ClassVar[int] = codes.RMSPROP

    def __post_init__(self) -> None:
        self._check_decay("decay")
        self._check_epsilon()
        self._check_decay("momentum")

    def settings(self) -> tuple[float, float, float, float]:
        """Return what the kernels take, see `Optimizer.settings`: momentum and decay are the decay rates."""
        return self.momentum, self.decay, self.epsilon, 0.0


@dataclass(frozen=True)
class LBFGS(Optimizer):
    """L-BFGS (Liu and Nocedal, 1989), by SciPy: a quasi-Newton method for small and medium sets of data.

    It minimises the loss of the whole set. An epoch is an iteration, which takes one evaluation of the loss and its
    gradient, or a few. SciPy works in float64, the kernels in the model's dtype: with float64 it converges further.
    Training stops early where it has converged; called again, `fit` begins with an empty memory. There is no learning
    rate and there are no single steps. Needs SciPy: ``pip install fastmlp[scipy]``.

    Parameters
    ----------
    memory : int
        Number of earlier iterations that the curvature is taken from, from 1 to 1000; default 10.
    tolerance : float
        Training stops when no element of the gradient is larger in absolute value; at least 0, default 1e-5. It
        stops, too, when an iteration lowers what is minimised, relative to it or to 1, by less than 2.2e-9.
    max_evaluations : int
        Training stops after the iteration in which there have been more evaluations in a call of `fit`; at least 1,
        default 15000.
    """

    memory: int = 10
    tolerance: float = 1e-5
    max_evaluations: int = 15000
    code: ClassVar[int] = codes.WRITE_GRADIENT  # all that the kernels do for it

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", check_integer("memory", self.memory, low=1, high=1000))
        self._check("tolerance", 0.0)
        object.__setattr__(self, "max_evaluations", check_integer("max_evaluations", self.max_evaluations, low=1))


# Those whose updates the kernels make, batch by batch.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.__name__.lower(): kind
    for kind in (SGD, Momentum, Nesterov, Adam, AdamW, NAdam, Adagrad, Adadelta, RMSprop)
}


def check_optimizer(optimizer: Any) -> Optimizer:
    """Return an optimizer from its name, with default settings, or from an instance.

    An instance must be of one of the classes here, and of no subclass: the kernels trust its code and its slots.
    """
    if type(optimizer) in (*OPTIMIZERS.values(), LBFGS):
        chosen: Optimizer = optimizer
        return chosen
    allowed = (f"one of {', '.join(map(repr, OPTIMIZERS))}, or an instance of "
               f"{', '.join(kind.__name__ for kind in OPTIMIZERS.values())} (not of a subclass); or 'lbfgs' or an "
               "instance of LBFGS")
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer must be {allowed}, got {optimizer!r}")
    if optimizer == "lbfgs":
        return LBFGS()
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be {allowed}, got {optimizer!r}")
    return OPTIMIZERS[optimizer]()
