"""Losses: plain data that names a loss of the kernels, holds its parameter, and knows the targets it takes.

The formulas and their sources are in `fastmlp.kernels.losses`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .arrays import Source, Targets, as_numeric, check_labels, check_targets, check_weights
from .custom import UserFunction, loss_function
from .kernels import losses as codes
from .kernels.batches import LABELS
from .validation import check_number

SMALLEST = float(np.finfo(np.float64).tiny)  # what is below, the kernels take for 0


@dataclass(frozen=True)
class Loss:
    """Base class: the code of the loss in the kernels, and the output activation it needs, None for any."""

    code: ClassVar[int]
    name: ClassVar[str]
    output: ClassVar[str | None] = None

    @property
    def counts_hits(self) -> bool:
        """Whether an accuracy goes with the loss."""
        return self.code in (codes.CROSS_ENTROPY, codes.BINARY_CROSS_ENTROPY)

    @property
    def parameter(self) -> float:
        """The number that the kernel takes."""
        return 0.0

    def kernel_code(self, dtype: np.dtype[Any]) -> int:
        """What the kernels know the loss by: its code, or the address of a user's function."""
        return self.code

    def check_y(self, y: Any, rows: int, outputs: int, dtype: np.dtype[Any]) -> Source:
        """Check the argument y and describe it to the kernels: real numbers (rows, outputs) unless overridden."""
        return check_targets(y, rows, outputs, dtype)

    def check_targets(self, y: Any, rows: int, outputs: int, dtype: np.dtype[Any], sample_weight: Any = None,
                      class_weight: Any = None) -> Targets:
        """Check targets and weights; see `Trainer.fit` for what is allowed."""
        source = self.check_y(y, rows, outputs, dtype)
        weights = None if sample_weight is None else check_weights("sample_weight", sample_weight, rows)
        if class_weight is not None:
            by_class = class_weights(class_weight, self.classes_of(source), outputs)
            weights = by_class if weights is None else weights * by_class
        if weights is not None:
            with np.errstate(over="ignore"):
                total = float(weights.sum())
            if total == 0.0:
                raise ValueError("sample_weight and class_weight must leave rows with a weight above 0, got none")
            if not SMALLEST <= total < np.inf:
                raise ValueError(f"sample_weight and class_weight must have a sum from {SMALLEST:.3g} to 1.8e308, got "
                                 f"{total:g}")
        return Targets(source, self.kernel_code(dtype), np.array([self.parameter]), weights)

    def classes_of(self, source: Source) -> NDArray[np.int64]:
        """Class of each row, for class weights."""
        raise ValueError("class_weight goes with the losses 'cross_entropy' and 'binary_cross_entropy', got "
                         f"{self.name!r}")


@dataclass(frozen=True)
class _OfProbabilities(Loss):
    """Base class of the cross entropies, whose targets may be smoothed."""

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        smoothing = check_number("label_smoothing", self.label_smoothing, low=0.0, high=1.0, below=True)
        object.__setattr__(self, "label_smoothing", smoothing)

    @property
    def parameter(self) -> float:
        """The number that the kernel takes."""
        return self.label_smoothing


@dataclass(frozen=True)
class CrossEntropy(_OfProbabilities):
    """Softmax cross entropy, - sum t_k log a_k: of integer labels (rows,) or probabilities (rows, outputs).

    Parameters
    ----------
    label_smoothing : float
        s, at least 0 and below 1; default 0. Targets become (1 - s) t + s / outputs (Szegedy et al., 2016).
    """

    code: ClassVar[int] = codes.CROSS_ENTROPY
    name: ClassVar[str] = "cross_entropy"
    output: ClassVar[str | None] = "softmax"

    def check_y(self, y: Any, rows: int, outputs: int, dtype: np.dtype[Any]) -> Source:
        """Check labels or probabilities."""
        allowed = f"labels of shape ({rows},), or probabilities of shape ({rows}, {outputs})"
        array = as_numeric("y", y, allowed)
        if array.ndim != 2:
            return check_labels(y, rows, outputs)
        if array.shape[1] != outputs:
            raise ValueError(f"y must be {allowed}, got shape {array.shape}")
        return check_targets(y, rows, outputs, dtype, low=0.0, high=1.0, distribution=True)

    def classes_of(self, source: Source) -> NDArray[np.int64]:
        """Return the labels, or the most probable classes."""
        return source.array if source.kind == LABELS else np.asarray(source.array.argmax(axis=1), np.int64)


@dataclass(frozen=True)
class BinaryCrossEntropy(_OfProbabilities):
    """Binary cross entropy, the mean over the outputs of - t log a - (1 - t) log(1 - a); targets from 0 to 1.

    Parameters
    ----------
    label_smoothing : float
        s, at least 0 and below 1; default 0. Targets become (1 - s) t + s / 2.
    """

    code: ClassVar[int] = codes.BINARY_CROSS_ENTROPY
    name: ClassVar[str] = "binary_cross_entropy"
    output: ClassVar[str | None] = "sigmoid"

    def check_y(self, y: Any, rows: int, outputs: int, dtype: np.dtype[Any]) -> Source:
        """Check targets from 0 to 1."""
        return check_targets(y, rows, outputs, dtype, low=0.0, high=1.0)

    def classes_of(self, source: Source) -> NDArray[np.int64]:
        """Return 1 where the one output is to be above one half, else 0."""
        if source.array.shape[1] != 1:
            raise ValueError(f"class_weight needs one output with 'binary_cross_entropy', got {source.array.shape[1]}")
        return np.asarray(source.array[:, 0] > 0.5, np.int64)


@dataclass(frozen=True)
class HalfSquaredError(Loss):
    """Half the squared error, 1/2 sum (a - t)^2."""

    code: ClassVar[int] = codes.HALF_SQUARED_ERROR
    name: ClassVar[str] = "half_squared_error"


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """The mean over the outputs of (a - t)^2."""

    code: ClassVar[int] = codes.MEAN_SQUARED_ERROR
    name: ClassVar[str] = "mean_squared_error"


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """The mean over the outputs of |a - t|."""

    code: ClassVar[int] = codes.MEAN_ABSOLUTE_ERROR
    name: ClassVar[str] = "mean_absolute_error"


@dataclass(frozen=True)
class Huber(Loss):
    """The mean over the outputs of e^2 / 2 where |e| <= delta, delta (|e| - delta / 2) beyond (Huber, 1964).

    Parameters
    ----------
    delta : float
        Above 0; default 1.
    """

    delta: float = 1.0
    code: ClassVar[int] = codes.HUBER
    name: ClassVar[str] = "huber"

    def __post_init__(self) -> None:
        object.__setattr__(self, "delta", check_number("delta", self.delta, low=0.0, above=True))

    @property
    def parameter(self) -> float:
        """The number that the kernel takes."""
        return self.delta


@dataclass(frozen=True)
class Hinge(Loss):
    """The mean over the outputs of max(0, 1 - t a), for targets -1 and 1 (Cortes and Vapnik, 1995)."""

    code: ClassVar[int] = codes.HINGE
    name: ClassVar[str] = "hinge"

    def check_y(self, y: Any, rows: int, outputs: int, dtype: np.dtype[Any]) -> Source:
        """Check targets that are -1 or 1."""
        source = check_targets(y, rows, outputs, dtype)
        wrong = source.array[np.abs(source.array) != 1]
        if wrong.size:
            raise ValueError(f"y must hold -1 and 1 for the loss 'hinge', got {wrong.flat[0]}")
        return source


@dataclass(frozen=True)
class Poisson(Loss):
    """The mean over the outputs of e^z - t z, with e^z the rate: the output; for targets of at least 0, as counts."""

    code: ClassVar[int] = codes.POISSON
    name: ClassVar[str] = "poisson"
    output: ClassVar[str | None] = "exponential"

    def check_y(self, y: Any, rows: int, outputs: int, dtype: np.dtype[Any]) -> Source:
        """Check targets of at least 0."""
        return check_targets(y, rows, outputs, dtype, low=0.0, high=np.inf)


def class_weights(class_weight: Any, classes: NDArray[np.int64], outputs: int) -> NDArray[np.float64]:
    """Return the weight of each row from a dict of weights by class, or "balanced"."""
    number = max(outputs, 2)
    allowed = f"'balanced' or a dict of numbers of at least 0 by class 0 to {number - 1}"
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(classes, minlength=number)
        present = counts > 0
        by_class = np.zeros(number)
        by_class[present] = len(classes) / (present.sum() * counts[present])
        return by_class[classes]
    if isinstance(class_weight, str):
        raise ValueError(f"class_weight must be {allowed}, got {class_weight!r}")
    if not isinstance(class_weight, dict):
        raise TypeError(f"class_weight must be {allowed}, got {class_weight!r}")
    by_class = np.ones(number)
    for key, weight in class_weight.items():
        if isinstance(key, bool) or not isinstance(key, (int, np.integer)) or not 0 <= key < number:
            raise ValueError(f"class_weight must be {allowed}, got the class {key!r}")
        by_class[key] = check_number(f"class_weight[{key}]", weight, low=0.0)
    return by_class[classes]


LOSS_KINDS: tuple[type[Loss], ...] = (CrossEntropy, BinaryCrossEntropy, HalfSquaredError, MeanSquaredError,
                                      MeanAbsoluteError, Huber, Hinge, Poisson)
LOSSES: dict[str, Callable[[], Loss]] = {kind.name: kind for kind in LOSS_KINDS}


def register_loss(name: str, value: Callable[[float, float], float],
                  derivative: Callable[[float, float], float]) -> None:
    """Make a loss of one's own known by a name.

    Parameters
    ----------
    name : str
        How `Trainer` and `loss_and_gradients` will know it; a name that was registered may be registered anew.
    value : function
        Loss of one output and its target, ``value(a, t)``: numbers in, a number out. Numba compiles it. The loss of a
        row is the mean over its outputs. A division by 0 gives infinity or NaN. Where the function raises an exception
        all the same, the loss is NaN, and training ends.
    derivative : function
        Its derivative by a, ``derivative(a, t)``, in the same way.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, if the name is one of fastmlp's own, or if the derivative does not agree with
        difference quotients of the value, for a from -4 to 4 and t of 0 and 1.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"name must be a str, got {name!r}")
    if name in LOSSES and not isinstance(LOSSES[name](), _UserLoss):
        raise ValueError(f"name must not be that of a loss of fastmlp, got {name!r}")
    compiled = loss_function(value, derivative)
    LOSSES[name] = lambda: _UserLoss(name, compiled)


@dataclass(frozen=True)
class _UserLoss(Loss):
    """A loss that `register_loss` made known."""

    name: str  # type: ignore[misc]
    compiled: UserFunction
    code: ClassVar[int] = codes.CODES

    def kernel_code(self, dtype: np.dtype[Any]) -> int:
        """Address of the user's function."""
        return self.compiled.address(dtype)

    def __reduce__(self) -> Any:  # what is compiled cannot be pickled: its name can
        return _loss_by_name, (self.name,)


def _loss_by_name(name: str) -> Loss:
    if name not in LOSSES:
        raise ValueError(f"the loss {name!r} must be registered by register_loss before it is loaded")
    return LOSSES[name]()


def check_loss(loss: Any, output: str) -> Loss:
    """Return a loss from its name or an instance, if it goes with the output activation `output`.

    An instance must be of one of the classes here, and of no subclass: the kernels trust its code.
    """
    allowed = (f"one of {', '.join(map(repr, sorted(LOSSES)))}, or an instance such as "
               "CrossEntropy(label_smoothing=0.1) (not of a subclass: register_loss makes a loss of your own)")
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(f"loss must be {allowed}, got {loss!r}")
        loss = LOSSES[loss]()
    if not isinstance(loss, Loss) or type(loss) not in (*LOSS_KINDS, _UserLoss):
        raise TypeError(f"loss must be {allowed}, got {loss!r}")
    if loss.output is not None and loss.output != output:
        fitting = [kind.name for kind in LOSS_KINDS if kind.output == output]
        hint = f", which goes with the loss {fitting[0]!r}" if fitting else ""
        raise ValueError(f"loss {loss.name!r} needs a model with output={loss.output!r}, got output={output!r}{hint}")
    return loss
