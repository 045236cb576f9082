"""The multilayer perceptron: its layers, its parameters, and what it computes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import engine
from .activations import ACTIVATIONS
from .arrays import as_numeric, check_inputs
from .initializers import initial_weights
from .kernels import layout
from .kernels.updates import WRITE_GRADIENT
from .layers import MAX_UNITS, Dense
from .losses import check_loss
from .serialization import ModelFileError, read_model_file, write_model_file
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
        Number of inputs, then a layer each: a number of units or a `Dense`. At least one layer.
    activation : str
        Activation of the hidden layers that do not name their own; default "relu".
    output : str, optional
        Activation of the last layer if it does not name its own: "softmax" for classes that exclude one another,
        "sigmoid" for one or more yes-or-no outputs, "identity" for regression. By default "softmax" for two units
        or more, "sigmoid" for one.
    dtype : str or dtype
        "float32" (default) or "float64": of parameters, arithmetic and outputs.
    seed : int or None
        Of the initial weights; the same seed gives the same weights. None takes another one each time.
    input_mean, input_std : float or array of shape (inputs,)
        The network computes on ``(X - input_mean) / input_std``; default 0 and 1. They are stored with the model.

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
        layers: Iterable[int | Dense],
        activation: str = "relu",
        output: str | None = None,
        dtype: Any = "float32",
        seed: int | None = 0,
        input_mean: Any = 0.0,
        input_std: Any = 1.0,
    ) -> None:
        inputs, described = _check_layers(layers)
        check_choice("activation", activation, ACTIVATIONS)
        if output is None:
            output = "softmax" if described[-1].units > 1 else "sigmoid"
        check_choice("output", output, ACTIVATIONS)
        chosen_seed = check_seed(seed)
        defaults = [activation] * (len(described) - 1) + [output]
        self._layers = tuple(
            Dense(layer.units, layer.activation or default, layer.alpha, layer.initializer)
            for layer, default in zip(described, defaults, strict=True)
        )
        self._inputs = inputs
        self._build(_check_dtype(dtype), input_mean, input_std)
        rng = np.random.default_rng(chosen_seed)
        weights: list[Array] = []
        for fan_in, layer in zip(self._sizes(), self._layers, strict=False):
            weights.append(initial_weights(layer.initializer, fan_in, layer.units, layer.activation or "", rng,
                                           self.dtype))
            weights.append(np.zeros(layer.units, self.dtype))
        self.set_weights(weights)

    def _sizes(self) -> list[int]:
        return [self._inputs, *(layer.units for layer in self._layers)]

    def _build(self, dtype: np.dtype[Any], input_mean: Any, input_std: Any) -> None:
        """Lay out the network in memory, all parameters zero."""
        chosen = [ACTIVATIONS[str(layer.activation)] for layer in self._layers]
        sizes = self._sizes()
        if sum(i * o for i, o in pairwise(sizes)) > MAX_PARAMETERS:
            raise ValueError(f"layers must have at most {MAX_PARAMETERS} weights together, got sizes {sizes}")
        mean = _check_scaling("input_mean", input_mean, self.inputs, dtype)
        std = _check_scaling("input_std", input_std, self.inputs, dtype)
        with np.errstate(over="ignore", divide="ignore"):
            scale = (1 / std.astype(np.float64)).astype(dtype)
        if not (std > 0).all() or not np.isfinite(scale).all():
            raise ValueError(f"input_std must be above 0, with a finite reciprocal as {dtype}, got {std.min()}")
        table = layout.layer_table(sizes, [activation.code for activation in chosen], dtype)
        alphas = [activation.alpha if layer.alpha is None else layer.alpha
                  for activation, layer in zip(chosen, self._layers, strict=True)]
        self.input_mean = mean
        self.input_std = std
        self.network = engine.Network(
            table=table,
            alphas=np.array(alphas, np.float64),
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
    def layers(self) -> list[Dense]:
        """The layers, each with its activation."""
        return list(self._layers)

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
        return str(self._layers[-1].activation)

    @property
    def parameter_count(self) -> int:
        """Number of weights and biases."""
        sizes = self._sizes()
        return sum((i + 1) * o for i, o in pairwise(sizes))

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
            int64 (n, outputs); else the outputs (n, outputs).

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
        if self.output not in ("softmax", "sigmoid"):
            raise ValueError(f"predict_proba needs a model with output 'softmax' or 'sigmoid', got {self.output!r}")
        return self.forward(X)

    def loss_and_gradients(self, X: Any, y: Any, loss: str = "cross_entropy") -> tuple[float, list[Array]]:
        """Return the mean loss over the rows and its gradient by every parameter; the model is not changed.

        Parameters
        ----------
        X : array of shape (n, inputs)
        y : array
            Targets, as in `Trainer.fit`.
        loss : str
            Name of the loss.

        Returns
        -------
        loss : float
        gradients : list of arrays [dW0, db0, dW1, db1, ...], with the shapes of `get_weights`

        Raises
        ------
        TypeError, ValueError
            If an argument is not of its kind, or not allowed.
        """
        chosen = check_loss(loss, self.output)
        source = check_inputs(X, self.inputs, self.dtype)
        targets = chosen.check_targets(y, source.rows, self.outputs, self.dtype)
        call = engine.training_call(self.network, source.rows, gradients=True)
        call.set_inputs(source)
        call.set_targets(targets, chosen.code)
        call.set_steps(0, np.zeros(1))
        call.context[layout.OPTIMIZER] = WRITE_GRADIENT
        call.keep(layout.ORDER, np.arange(source.rows))
        call.train(engine.threads_for(engine.training_work(self.network, source.rows)))
        gradients = call.kept(layout.GRADIENTS)
        return float(call.kept(layout.LOSSES)[0]), layout.unpack(self.network.table, gradients)

    # ---- parameters

    def get_weights(self) -> list[Array]:
        """Return copies of the parameters: [W0, b0, W1, b1, ...], W of shape (inputs, units), b of (units,)."""
        return layout.unpack(self.network.table, self.network.parameters)

    def set_weights(self, weights: Iterable[Any]) -> None:
        """Set all parameters, in the order and shapes of `get_weights`; values are converted to the model's dtype.

        Raises
        ------
        TypeError, ValueError
            If `weights` are not arrays of real numbers in that number and those shapes; then none is changed.
        """
        arrays = _check_weights(weights, self._sizes())
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
            count = (fan_in + 1) * layer.units
            lines.append(f"{number:<8}{fan_in:>8}{layer.units:>8}  {layer.activation:<12}{count:>12,}")
        size = self.parameter_count * self.dtype.itemsize
        lines.append(f"{self.parameter_count:,} parameters, {self.dtype}, {size / 1e6:.2f} MB")
        return "\n".join(lines)

    def __repr__(self) -> str:
        layers = ", ".join(f"Dense({layer.units}, {layer.activation!r})" for layer in self.layers)
        return f"MLP([{self.inputs}, {layers}], dtype='{self.dtype}')"

    def _describe(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "dtype": str(self.dtype),
            "layers": [
                {"units": layer.units, "activation": layer.activation, "alpha": layer.alpha,
                 "initializer": layer.initializer}
                for layer in self.layers
            ],
        }

    def _tensors(self) -> dict[str, Array]:
        tensors = {"input_mean": self.input_mean, "input_std": self.input_std}
        for number, row in enumerate(self.network.table):
            weights, bias = layout.unpack_layer(row, self.network.parameters)
            tensors[f"layers.{number}.weights"] = weights
            tensors[f"layers.{number}.bias"] = bias
        return tensors

    @classmethod
    def _from_description(cls, description: dict[str, Any], tensors: dict[str, Array]) -> MLP:
        layers = [Dense(**layer) for layer in description["layers"]]
        model = cls.__new__(cls)
        model._inputs, described = _check_layers([description["inputs"], *layers])
        model._layers = tuple(described)
        if any(layer.activation is None for layer in described):
            raise ValueError("a layer has no activation")
        names = [f"layers.{number}.{kind}" for number in range(len(layers)) for kind in ("weights", "bias")]
        if set(tensors) != {*names, "input_mean", "input_std"}:
            raise ValueError(f"expected the tensors {names}, input_mean and input_std, got {sorted(tensors)}")
        # Before memory is taken: a file of a few bytes may describe layers of any size.
        weights = _check_weights([tensors[name] for name in names], model._sizes())
        model._build(_check_dtype(description["dtype"]), tensors["input_mean"], tensors["input_std"])
        model.set_weights(weights)
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
        """
        tensors, description = read_model_file(path)
        try:
            return cls._from_description(description, tensors)
        except (KeyError, TypeError, ValueError) as problem:
            raise ModelFileError(f"{os.fspath(path)} does not describe a model of fastmlp: {problem}") from problem

    def __getstate__(self) -> dict[str, Any]:
        # The layout in memory is that of this machine's processor; what is pickled or copied is free of it.
        return {"description": self._describe(), "tensors": self._tensors()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(self._from_description(state["description"], state["tensors"]).__dict__)


def _check_layers(layers: Any) -> tuple[int, list[Dense]]:
    allowed = "a list of the number of inputs and one or more layers, each a number of units or a Dense"
    if isinstance(layers, (str, bytes)) or not isinstance(layers, Iterable):
        raise TypeError(f"layers must be {allowed}, got {layers!r}")
    inputs, *rest = list(layers) or [None]
    if inputs is None or not rest:
        raise ValueError(f"layers must be {allowed}, got {layers!r}")
    if isinstance(inputs, Dense):
        raise TypeError(f"layers must be {allowed}, got {inputs!r} in the place of the number of inputs")
    count = check_integer("layers[0]", inputs, low=1, high=MAX_UNITS)
    return count, [
        layer if isinstance(layer, Dense) else Dense(check_integer(f"layers[{i}]", layer, low=1, high=MAX_UNITS))
        for i, layer in enumerate(rest, 1)
    ]


def _check_weights(weights: Any, sizes: list[int]) -> list[Array]:
    """Return the weights as arrays if they are of the number and shapes that layers of these sizes have."""
    shapes = [shape for i, o in pairwise(sizes) for shape in ((i, o), (o,))]
    if not isinstance(weights, Iterable):
        raise TypeError(f"weights must be {len(shapes)} arrays, got {weights!r}")
    given = list(weights)
    if len(given) != len(shapes):
        raise ValueError(f"weights must be {len(shapes)} arrays, got {len(given)}")
    arrays = []
    for position, (values, shape) in enumerate(zip(given, shapes, strict=True)):
        array = as_numeric(f"weights[{position}]", values, f"an array of real numbers of shape {shape}")
        if array.shape != shape:
            raise ValueError(f"weights[{position}] must have shape {shape}, got {array.shape}")
        arrays.append(array)
    return arrays


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
