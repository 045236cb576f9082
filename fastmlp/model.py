"""The multilayer perceptron: its layers, its parameters, and what it computes."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import engine
from .activations import ACTIVATIONS
from .architecture import (
    LAYERS,
    activation_of,
    check_layers,
    check_weights,
    complete_layers,
    first_weights,
    shapes_of,
    table_of,
)
from .arrays import as_numeric, check_inputs
from .from_sklearn import model_of_estimator
from .kernels import layout
from .kernels.updates import WRITE_GRADIENT
from .layers import Dense, Layer
from .losses import Loss, check_loss
from .serialization import damage_reported, read_model_file, read_model_header, write_model_file
from .validation import check_choice, check_integer

Array = NDArray[Any]

DTYPES = ("float32", "float64")
MAX_PARAMETERS = 1 << 40


def check_seed(seed: Any) -> int:
    """Return a seed from 0 to 2**63 - 1; None draws one from the operating system."""
    if seed is None:
        return int.from_bytes(os.urandom(8), "little") >> 1
    return check_integer("seed", seed, low=0, high=2**63 - 1)


class MLP:
    """A multilayer perceptron: dense layers, each f(x W + b), one after the other.

    Parameters
    ----------
    layers : list
        Number of inputs, then a layer each: a number of units, a `Dense` or a `Maxout`. At least one layer.
    activation : str
        Activation of the hidden layers that do not name their own; default "relu".
    output : str, optional
        Activation of the last layer if it does not name its own: "softmax" for classes that exclude one another,
        "sigmoid" for one or more yes-or-no outputs, "identity" for regression. By default "softmax" for two units
        or more, "sigmoid" for one.
    dtype : str or dtype
        "float32" (default) or "float64": of parameters, arithmetic and outputs.
    seed : int or None
        Of the initial weights, default 0; the same seed gives the same weights. None takes another one each time.
    input_mean, input_std : float or array of shape (inputs,)
        The network computes on ``(X - input_mean) / input_std``; default 0 and 1. They are stored with the model, as
        arrays (inputs,) that cannot be changed.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, or not allowed.

    Examples
    --------
    >>> model = MLP([784, 128, 10], activation="relu", output="softmax", seed=0)
    >>> model = MLP([784, Dense(256, "relu"), Dense(10, "softmax")], dtype="float32", seed=0)
    """

    def __init__(
        self,
        layers: Iterable[int | Layer],
        activation: str = "relu",
        output: str | None = None,
        dtype: Any = "float32",
        seed: int | None = 0,
        input_mean: Any = 0.0,
        input_std: Any = 1.0,
    ) -> None:
        inputs, described = check_layers(layers)
        check_choice("activation", activation, ACTIVATIONS)
        if output is None:
            output = "softmax" if described[-1].units > 1 else "sigmoid"
        check_choice("output", output, ACTIVATIONS)
        chosen_seed = check_seed(seed)
        defaults = [activation] * (len(described) - 1) + [output]
        self._layers = complete_layers(described, defaults)
        self._inputs = inputs
        self._build(_check_dtype(dtype), input_mean, input_std)
        rng = np.random.default_rng(chosen_seed)
        weights: list[Array] = []
        for fan_in, layer in zip(self._sizes(), self._layers, strict=False):
            weights += first_weights(layer, fan_in, rng, self.dtype)
        self.set_weights(weights)

    @classmethod
    def from_sklearn(cls, estimator: Any) -> MLP:
        """Take over a fitted MLPClassifier or MLPRegressor of scikit-learn, or of fastmlp.

        Parameters
        ----------
        estimator : MLPClassifier or MLPRegressor
            Fitted. It is copied: training the model does not change it.

        Returns
        -------
        MLP
            Of the estimator's weights, activations and dtype. Its `forward` gives, to rounding, the estimator's
            ``predict_proba``, or a regressor's ``predict``, with a column for each output. Classes are counted from 0,
            in the order of ``classes_``; for two classes there is one sigmoid unit, the probability of the second.

        Raises
        ------
        TypeError
            If `estimator` is something else, or its weights were set to what are not numbers.
        ValueError
            If it is not fitted, or its weights or activation were set to what it could not compute with.

        Examples
        --------
        >>> model = MLP.from_sklearn(MLPClassifier().fit(X, y))
        >>> Trainer(model, learning_rate=1e-4).fit(X, y, epochs=10)
        """
        return model_of_estimator(cls, estimator)

    def _sizes(self) -> list[int]:
        return [self._inputs, *(layer.units for layer in self._layers)]

    def _shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the arrays of `get_weights`."""
        return [shape for fan_in, layer in zip(self._sizes(), self._layers, strict=False)
                for shape in shapes_of(layer, fan_in)]

    def _build(self, dtype: np.dtype[Any], input_mean: Any, input_std: Any) -> None:
        """Lay out the network in memory, all parameters zero."""
        sizes = self._sizes()
        if sum(math.prod(shape) for shape in self._shapes()) > MAX_PARAMETERS:
            raise ValueError(f"layers must have at most {MAX_PARAMETERS} weights together, got sizes {sizes}")
        mean = _check_scaling("input_mean", input_mean, self.inputs, dtype)
        std = _check_scaling("input_std", input_std, self.inputs, dtype)
        with np.errstate(over="ignore", divide="ignore"):
            scale = (1 / std.astype(np.float64)).astype(dtype)
        if not (std > 0).all() or not np.isfinite(scale).all():
            raise ValueError(f"input_std must be above 0, with a finite reciprocal as {dtype}, got {std.min()}")
        table, numbers = table_of(sizes, self._layers, dtype)
        for array in (mean, std):  # the network has them in another form, which would not follow
            array.flags.writeable = False
        self._input_mean = mean
        self._input_std = std
        self._output = activation_of(self._layers[-1])
        self.network = engine.Network(
            table=table,
            numbers=numbers,
            parameters=layout.aligned_zeros(layout.parameter_count(table), dtype),
            mean=mean,
            scale=scale,
            standardised=bool((mean != 0).any() or (std != 1).any()),
        )

    # What the memory of the network was laid out for can be read, but not set.

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self._inputs

    @property
    def layers(self) -> list[Layer]:
        """The layers, each with its activation."""
        return list(self._layers)

    @property
    def input_mean(self) -> Array:
        """What is subtracted from each input, (inputs,), read-only."""
        return self._input_mean

    @input_mean.setter
    def input_mean(self, value: Any) -> None:
        raise AttributeError("input_mean cannot be set: make another MLP with it, and set_weights")

    @property
    def input_std(self) -> Array:
        """What each input is divided by after that, (inputs,), read-only."""
        return self._input_std

    @input_std.setter
    def input_std(self, value: Any) -> None:
        raise AttributeError("input_std cannot be set: make another MLP with it, and set_weights")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of parameters and outputs."""
        return self.network.dtype

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self._layers[-1].units

    @property
    def output(self) -> str:
        """Activation of the last layer."""
        return self._output

    @property
    def parameter_count(self) -> int:
        """Number of weights, biases and learned slopes."""
        return sum(math.prod(shape) for shape in self._shapes())

    # ---- what the network computes

    def forward(self, X: Any) -> Array:
        """Return the network's outputs.

        Parameters
        ----------
        X : array of shape (n, inputs)
            Any real dtype and memory order; float32, float64 and uint8 are read where they lie.

        Returns
        -------
        array of shape (n, outputs), of the model's dtype

        Raises
        ------
        TypeError, ValueError
            If X is not an array of finite real numbers of that shape.
        """
        return engine.predict(self.network, X)

    def predict(self, X: Any) -> Array:
        """Return labels or values.

        Parameters
        ----------
        X : array of shape (n, inputs)

        Returns
        -------
        array
            With softmax output the most probable class of each row, int64 (n,); with sigmoid outputs 0 or 1 for each,
            int64 (n, outputs); else the outputs (n, outputs). With one output that is (n, 1): ``predict(X)[:, 0]`` is
            what to compare with an array (n,), which NumPy would otherwise spread to (n, n).

        Raises
        ------
        TypeError, ValueError
            As `forward`.
        """
        outputs = self.forward(X)
        if self.output == "softmax":
            return np.asarray(outputs.argmax(axis=1), np.int64)
        if self.output == "sigmoid":
            return np.asarray(outputs > 0.5, np.int64)
        return outputs

    def predict_proba(self, X: Any) -> Array:
        """Return probabilities (n, outputs): of each class with softmax output, of a 1 with sigmoid outputs.

        Raises
        ------
        TypeError, ValueError
            As `forward`; ValueError if the output is neither softmax nor sigmoid.
        """
        if self._output not in ("softmax", "sigmoid"):
            raise ValueError(f"predict_proba needs a model with output 'softmax' or 'sigmoid', got {self.output!r}")
        return engine.predict(self.network, X)

    def loss_and_gradients(self, X: Any, y: Any, loss: str | Loss = "cross_entropy",
                           sample_weight: Any = None) -> tuple[float, list[Array]]:
        """Return the mean loss over the rows and its gradient by every parameter; the model is not changed.

        Parameters
        ----------
        X : array of shape (n, inputs)
        y : array
            Targets, as in `Trainer.fit`.
        loss : str or Loss
            As in `Trainer`.
        sample_weight : array of shape (n,), optional
            As in `Trainer.fit`.

        Returns
        -------
        loss : float
        gradients : list of arrays [dW0, db0, dW1, db1, ...], with the shapes of `get_weights`

        Nothing is dropped: the gradient is that of the network as it predicts.

        Raises
        ------
        TypeError, ValueError
            If an argument is not of its kind, or not allowed.
        """
        chosen = check_loss(loss, self.output)
        source = check_inputs(X, self.inputs, self.dtype)
        targets = chosen.check_targets(y, source.rows, self.outputs, self.dtype, sample_weight)
        call = engine.training_call(self.network, source.rows, gradients=True, drops=False)
        call.set_inputs(source)
        call.set_targets(targets)
        call.set_steps(0, np.zeros(1))
        call.context[layout.OPTIMIZER] = WRITE_GRADIENT
        call.keep(layout.ORDER, np.arange(source.rows))
        call.train(engine.threads_for_call(source.rows * self.network.training_work))
        gradients = call.kept(layout.GRADIENTS)
        return float(call.kept(layout.LOSSES)[0]), layout.unpack(self.network.table, gradients)

    # ---- parameters

    def get_weights(self) -> list[Array]:
        """Return copies of the parameters: [W0, b0, W1, b1, ...], W of shape (inputs, units), b of (units,).

        After the bias of a layer with learned slopes come these, (units,) or (1,).
        """
        return layout.unpack(self.network.table, self.network.parameters)

    def set_weights(self, weights: Iterable[Any]) -> None:
        """Set all parameters, in the order and shapes of `get_weights`; values are converted to the model's dtype.

        Raises
        ------
        TypeError, ValueError
            If `weights` are not arrays of real numbers in that number and those shapes; then none is changed.
        """
        arrays = check_weights(weights, self._shapes())
        with np.errstate(over="ignore"):  # what is too large for the dtype becomes infinite
            arrays = [array.astype(self.dtype, copy=False) for array in arrays]
        layout.pack(self.network.table, self.network.parameters, arrays)

    # ---- description, files

    def summary(self) -> None:
        """Print a table of the layers: units, activation, number of parameters."""
        print(self._summary())

    def _summary(self) -> str:
        lines = [f"{'layer':<8}{'inputs':>8}{'units':>8}  {'activation':<12}{'parameters':>12}"]
        for number, (fan_in, layer) in enumerate(zip(self._sizes(), self.layers, strict=False)):
            count = sum(math.prod(shape) for shape in shapes_of(layer, fan_in))
            lines.append(f"{number:<8}{fan_in:>8}{layer.units:>8}  {activation_of(layer):<12}{count:>12,}")
        size = self.parameter_count * self.dtype.itemsize
        lines.append(f"{self.parameter_count:,} parameters, {self.dtype}, {size / 1e6:.2f} MB")
        return "\n".join(lines)

    def __repr__(self) -> str:
        layers = ", ".join(f"Dense({layer.units}, {layer.activation!r})" if isinstance(layer, Dense) else
                           f"Maxout({layer.units}, {layer.pieces})" for layer in self.layers)
        return f"MLP([{self.inputs}, {layers}], dtype='{self.dtype}')"

    def _describe(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "dtype": str(self.dtype),
            "layers": [{"kind": type(layer).__name__.lower(), **dataclasses.asdict(layer)} for layer in self.layers],
        }

    def _tensors(self) -> dict[str, Array]:
        tensors = {"input_mean": self.input_mean, "input_std": self.input_std}
        return tensors | dict(zip(self._names(), self.get_weights(), strict=True))

    def _names(self) -> list[str]:
        """Names of the arrays of `get_weights`."""
        return [f"layers.{number}.{name}" for number, layer in enumerate(self._layers)
                for name, _ in zip(("weights", "bias", "slopes"), shapes_of(layer, 1), strict=False)]

    @classmethod
    def _from_description(cls, description: dict[str, Any], tensors: dict[str, Array]) -> MLP:
        model = cls._described(description, {name: np.shape(tensor) for name, tensor in tensors.items()})
        model._build(_check_dtype(description["dtype"]), tensors["input_mean"], tensors["input_std"])
        model.set_weights([tensors[name] for name in model._names()])
        return model

    @classmethod
    def _described(cls, description: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> MLP:
        """Return a model that no memory was taken for, if tensors of these shapes are what it consists of.

        A file of a few bytes may describe layers of any size, and a large one may hold anything.
        """
        layers = [_layer_from(dict(layer)) for layer in description["layers"]]
        model = cls.__new__(cls)
        model._inputs, described = check_layers([description["inputs"], *layers])
        if any(isinstance(layer, Dense) and layer.activation is None for layer in described):
            raise ValueError("a layer has no activation")
        model._layers = complete_layers(described, [""] * len(described))
        scaling = {"input_mean": (model.inputs,), "input_std": (model.inputs,)}
        wanted = scaling | dict(zip(model._names(), model._shapes(), strict=True))
        if set(shapes) != set(wanted):
            raise ValueError(f"expected the tensors {', '.join(wanted)}, got {', '.join(sorted(shapes))}")
        for name, shape in wanted.items():
            if shapes[name] != shape:
                raise ValueError(f"{name} must have shape {shape}, got {shapes[name]}")
        return model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file; a file of that name is replaced, all or nothing.

        Raises
        ------
        TypeError
            If `path` is not a path.
        OSError
            If the file cannot be written.
        """
        write_model_file(path, self._tensors(), self._describe())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MLP:
        """Read a model from a file that `save` wrote.

        Raises
        ------
        ModelFileError
            If the file is damaged or not a model of fastmlp; a ValueError.
        OSError
            If the file cannot be read.
        MemoryError
            If there is not enough memory for the model.
        """
        shapes, description = read_model_header(path)
        with damage_reported(path, "model"):
            cls._described(description, shapes)
        tensors, description = read_model_file(path)
        with damage_reported(path, "model"):
            return cls._from_description(description, tensors)

    def __getstate__(self) -> dict[str, Any]:
        # The layout in memory is that of this machine's processor; what is pickled or copied is free of it.
        return {"description": self._describe(), "tensors": self._tensors()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(self._from_description(state["description"], state["tensors"]).__dict__)


def _layer_from(description: dict[str, Any]) -> Layer:
    """Return a layer from what `MLP._describe` says of it."""
    name = description.get("activation")
    if isinstance(name, str) and name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not known; one of your own must be registered by "
                         "register_activation before")
    return LAYERS[description.pop("kind", "dense")](**description)


def _check_dtype(dtype: Any) -> np.dtype[Any]:
    allowed = "'float32' or 'float64'"
    try:
        chosen = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):  # NumPy reads strings and tuples as descriptions of records
        raise TypeError(f"dtype must be {allowed}, got {dtype!r}") from None
    if dtype is None or chosen.name not in DTYPES:
        raise ValueError(f"dtype must be {allowed}, got {dtype!r}")
    return np.dtype(str(chosen.name))


def _check_scaling(name: str, values: Any, inputs: int, dtype: np.dtype[Any]) -> Array:
    """Return a copy of input_mean or input_std as an array of (inputs,)."""
    allowed = f"a number or an array of {inputs} numbers"
    array = as_numeric(name, values, allowed)
    if array.shape not in ((), (inputs,)):
        raise ValueError(f"{name} must be {allowed}, got shape {array.shape}")
    with np.errstate(over="ignore"):
        result = np.array(np.broadcast_to(array, (inputs,)), dtype=dtype, order="C")
    if not np.isfinite(result).all():
        raise ValueError(f"{name} must be finite as {dtype}, got {array}")
    return result
