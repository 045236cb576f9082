"""fastmlp and its peers behind one interface: the same network, from the same weights, on the same data.

Each library is used as its own documentation advises for speed on a CPU: PyTorch with a fused optimizer, JAX with an
epoch compiled as one `lax.scan`. Peers are optional, so that each is imported by name, and only when it is used.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from fastmlp import MLP, Trainer

from ..baseline import NumpyMLP
from .cases import Array, Case

MOMENTUM = 0.9  # the default of fastmlp


class Side(ABC):
    """A network of one library.

    Parameters
    ----------
    case : Case
    X, y : arrays
        As `Case.data` returns them.
    seed : int
        Of the initial weights and of the order of the samples.
    """

    label: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]  # to import
    distribution: ClassVar[str]  # its name for pip

    def __init__(self, case: Case, X: Array, y: Array, seed: int = 0) -> None:
        self.case = case
        self.X = X
        self.y = y
        self.seed = seed

    @classmethod
    def is_installed(cls) -> bool:
        return all(find_spec(package.split(".")[0]) is not None for package in cls.packages)

    @classmethod
    def can_train(cls, case: Case) -> bool:
        """Whether the library has what the case needs."""
        return True

    def initial_weights(self) -> list[Array]:
        """Return [W0, b0, W1, b1, ...], W of (inputs, units): those that fastmlp draws."""
        return fastmlp_model(self.case, self.seed).get_weights()

    @abstractmethod
    def fit(self, epochs: int) -> None:
        """Train for some epochs of shuffled mini-batches."""

    @abstractmethod
    def predict(self, X: Array) -> Array:
        """Return the outputs for a NumPy array as a NumPy array: probabilities, or values of a regression."""


def fastmlp_model(case: Case, seed: int) -> MLP:
    return MLP(list(case.sizes), activation=case.activation, output=case.output, seed=seed)


class FastMLP(Side):
    """fastmlp."""

    label = "fastmlp"
    packages = ("fastmlp",)
    distribution = "fastmlp"

    def __init__(self, case: Case, X: Array, y: Array, seed: int = 0) -> None:
        super().__init__(case, X, y, seed)
        self.model = fastmlp_model(case, seed)
        self.trainer = Trainer(self.model, loss=case.loss, optimizer=case.optimizer, learning_rate=case.learning_rate,
                               batch_size=case.batch_size, seed=seed)

    def fit(self, epochs: int) -> None:
        self.trainer.fit(self.X, self.y, epochs=epochs, progress=False)

    def predict(self, X: Array) -> Array:
        return self.model.forward(X) if self.case.output == "identity" else self.model.predict_proba(X)


class NumPy(Side):
    """The plain NumPy network of `bench.baseline`."""

    label = "NumPy"
    packages = ("numpy",)
    distribution = "numpy"

    def __init__(self, case: Case, X: Array, y: Array, seed: int = 0) -> None:
        super().__init__(case, X, y, seed)
        self.network = NumpyMLP(list(case.sizes), case.activation, case.output, seed=seed)
        self.network.parameters = self.initial_weights()

    def fit(self, epochs: int) -> None:
        case = self.case
        self.network.fit(self.X, self.y, epochs, case.batch_size, case.learning_rate, case.optimizer)

    def predict(self, X: Array) -> Array:
        return self.network.predict_proba(X)


class PyTorch(Side):
    """`torch.nn.Sequential` in eager mode, with a fused optimizer."""

    label = "PyTorch"
    packages = ("torch",)
    distribution = "torch"

    def __init__(self, case: Case, X: Array, y: Array, seed: int = 0) -> None:
        super().__init__(case, X, y, seed)
        torch = self.torch = import_module("torch")
        torch.manual_seed(seed)
        self.inputs, self.targets = torch.from_numpy(X), torch.from_numpy(y)
        self.network = self._network()
        self.predictor = torch.nn.Sequential(*self.network, self._output())
        self.loss = {"softmax": torch.nn.CrossEntropyLoss, "sigmoid": torch.nn.BCEWithLogitsLoss,
                     "identity": torch.nn.MSELoss}[case.output]()
        parameters, rate = self.network.parameters(), case.learning_rate
        if case.optimizer == "adam":
            self.optimizer = torch.optim.Adam(parameters, rate, fused=True)
        else:
            self.optimizer = torch.optim.SGD(parameters, rate, momentum=0.0 if case.optimizer == "sgd" else MOMENTUM,
                                             nesterov=case.optimizer == "nesterov", fused=True)

    def _network(self) -> Any:
        """Return the network up to the last pre-activations."""
        torch, weights = self.torch, self.initial_weights()
        activation = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid,
                      "elu": torch.nn.ELU}[self.case.activation]
        layers: list[Any] = []
        for W, b in zip(weights[::2], weights[1::2], strict=True):
            layer = torch.nn.Linear(*W.shape)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(W.T))
                layer.bias.copy_(torch.from_numpy(b))
            layers += [layer, activation()]
        return torch.nn.Sequential(*layers[:-1])

    def _output(self) -> Any:
        nn = self.torch.nn
        return {"softmax": nn.Softmax(1), "sigmoid": nn.Sigmoid(), "identity": nn.Identity()}[self.case.output]

    def fit(self, epochs: int, schedule: Any = None) -> None:
        """Train; a learning-rate scheduler is stepped after every batch."""
        batch_size = self.case.batch_size
        for _ in range(epochs):
            order = self.torch.randperm(len(self.inputs))
            for begin in range(0, len(order), batch_size):
                rows = order[begin : begin + batch_size]
                self.optimizer.zero_grad()
                self.loss(self.network(self.inputs[rows]), self.targets[rows]).backward()
                self.optimizer.step()
                if schedule is not None:
                    schedule.step()

    def predict(self, X: Array) -> Array:
        with self.torch.inference_mode():
            outputs: Array = self.predictor(self.torch.from_numpy(X)).numpy()
        return outputs


class JAX(Side):
    """JAX with optax; the steps of an epoch are one compiled `lax.scan`."""

    label = "JAX"
    packages = ("jax", "optax")
    distribution = "jax"

    def __init__(self, case: Case, X: Array, y: Array, seed: int = 0) -> None:
        super().__init__(case, X, y, seed)
        jax = self.jax = import_module("jax")
        jax.config.update("jax_platforms", "cpu")
        self.optax = import_module("optax")
        self.inputs = jax.numpy.asarray(X)
        self.targets = jax.numpy.asarray(y.astype(np.int32) if case.output == "softmax" else y)
        weights = [jax.numpy.asarray(array) for array in self.initial_weights()]
        self.parameters = list(zip(weights[::2], weights[1::2], strict=True))
        self.optimizer = self._optimizer()
        self.state = self.optimizer.init(self.parameters)
        self.key = jax.random.key(seed)
        self.epochs = 0
        self.epoch = jax.jit(self._epoch, donate_argnums=(0, 1))
        self.outputs = jax.jit(self._outputs)

    def _optimizer(self) -> Any:
        optax, rate = self.optax, self.case.learning_rate
        if self.case.optimizer == "adam":
            return optax.adam(rate)
        if self.case.optimizer == "sgd":
            return optax.sgd(rate)
        return optax.sgd(rate, momentum=MOMENTUM, nesterov=self.case.optimizer == "nesterov")

    def _pre_activations(self, parameters: Any, X: Any) -> Any:
        nn = self.jax.nn
        activate = {"relu": nn.relu, "tanh": nn.tanh, "sigmoid": nn.sigmoid, "elu": nn.elu}[self.case.activation]
        *hidden, (last_weights, last_bias) = parameters
        for W, b in hidden:
            X = activate(X @ W + b)
        return X @ last_weights + last_bias

    def _outputs(self, parameters: Any, X: Any) -> Any:
        z, nn = self._pre_activations(parameters, X), self.jax.nn
        return {"softmax": nn.softmax, "sigmoid": nn.sigmoid, "identity": nn.identity}[self.case.output](z)

    def _loss(self, parameters: Any, X: Any, y: Any) -> Any:
        z, optax = self._pre_activations(parameters, X), self.optax
        if self.case.output == "softmax":
            return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()
        if self.case.output == "sigmoid":
            return optax.sigmoid_binary_cross_entropy(z, y).mean()
        return ((z - y) ** 2).mean()

    def _epoch(self, parameters: Any, state: Any, X: Any, y: Any, epoch: Any) -> Any:
        jax = self.jax
        order = jax.random.permutation(jax.random.fold_in(self.key, epoch), len(X))

        def step(carry: Any, rows: Any) -> Any:
            parameters, state = carry
            gradients = jax.grad(self._loss)(parameters, X[rows], y[rows])
            updates, state = self.optimizer.update(gradients, state)
            return (self.optax.apply_updates(parameters, updates), state), None

        return jax.lax.scan(step, (parameters, state), order.reshape(-1, self.case.batch_size))[0]

    def fit(self, epochs: int) -> None:
        for _ in range(epochs):
            self.parameters, self.state = self.epoch(self.parameters, self.state, self.inputs, self.targets,
                                                     self.epochs)
            self.epochs += 1
        self.jax.block_until_ready(self.parameters)

    def predict(self, X: Array) -> Array:
        return np.asarray(self.outputs(self.parameters, X))


class ScikitLearn(Side):
    """`MLPClassifier` and `MLPRegressor`; they draw their own weights, and start anew in every `fit`."""

    label = "scikit-learn"
    packages = ("sklearn.neural_network",)
    distribution = "scikit-learn"
    activations: ClassVar[dict[str, str]] = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}

    def __init__(self, case: Case, X: Array, y: Array, seed: int = 0) -> None:
        super().__init__(case, X, y, seed)
        networks = import_module(self.packages[0])
        kind = networks.MLPRegressor if case.output == "identity" else networks.MLPClassifier
        self.network = kind(
            hidden_layer_sizes=case.sizes[1:-1], activation=self.activations[case.activation], alpha=0.0,
            solver="adam" if case.optimizer == "adam" else "sgd",
            momentum=MOMENTUM if case.optimizer in ("momentum", "nesterov") else 0.0,
            nesterovs_momentum=case.optimizer == "nesterov",
            batch_size=case.batch_size, learning_rate_init=case.learning_rate,
            tol=0.0, n_iter_no_change=1_000_000, random_state=seed)
        self.targets = y.ravel() if case.sizes[-1] == 1 else y

    @classmethod
    def can_train(cls, case: Case) -> bool:
        return case.activation in cls.activations

    def fit(self, epochs: int) -> None:
        self.network.set_params(max_iter=epochs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that training has not converged
            self.network.fit(self.X, self.targets)

    def predict(self, X: Array) -> Array:
        outputs: Array = (self.network.predict(X) if self.case.output == "identity" else
                          self.network.predict_proba(X))
        return outputs


PEERS: dict[str, type[Side]] = {"numpy": NumPy, "torch": PyTorch, "jax": JAX, "sklearn": ScikitLearn}
SIDES: dict[str, type[Side]] = {"fastmlp": FastMLP, **PEERS}


def make_sides(case: Case, peers: Iterable[str]) -> dict[str, Side]:
    """Return fastmlp's network for a case and those of the peers that can train it."""
    X, y = case.data()
    able = [name for name in peers if PEERS[name].can_train(case)]
    return {name: SIDES[name](case, X, y) for name in ("fastmlp", *able)}
