"""Matrix products on their own: the three of a dense layer, beside those of NumPy and PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from fastmlp.kernels import standalone

from .cases import Array
from .results import Comparison
from .timing import Effort, measure

FORMS = {
    "forward": "X W + b",
    "transposed": "delta W^T",
    "gradient": "a^T delta, and the sum of the rows of delta",
}
PEERS = ("numpy", "torch")

Calls = dict[str, Callable[[], Any]]


def compare_product(form: str, shape: tuple[int, int, int], threads: int, peers: Iterable[str],
                    effort: Effort) -> Comparison:
    """Measure one product on a number of threads.

    Parameters
    ----------
    form : str
        A name of `FORMS`.
    shape : tuple (rows, inputs, units)
        Of the batch and of the layer.
    threads : int
    peers : iterable of str
        Those of `PEERS` that take part; others are passed over.
    effort : Effort
    """
    chosen = [name for name in PEERS if name in peers]
    calls = product_calls(form, shape, threads, chosen)
    with peer_threads(threads, chosen):
        seconds = measure(calls, effort)
    rows, inputs, units = shape
    name = f"{rows:,} x {inputs:,} x {units:,}"
    return Comparison(name, FORMS[form], seconds, flops=2 * rows * inputs * units)


def product_calls(form: str, shape: tuple[int, int, int], threads: int, peers: Iterable[str]) -> Calls:
    """Return functions that compute the product, one for fastmlp and one for each peer."""
    rows, inputs, units = shape
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, inputs), np.float32)
    W = rng.standard_normal((inputs, units), np.float32)
    b = rng.standard_normal(units, np.float32)
    delta = rng.standard_normal((rows, units), np.float32)
    calls = {
        "forward": lambda: standalone.dense_forward(X, W, b, threads=threads),
        "transposed": lambda: standalone.dense_backward(delta, W, threads=threads),
        "gradient": lambda: standalone.weight_gradient(X, delta, threads=threads),
    }
    chosen: Calls = {"fastmlp": calls[form]}
    if "numpy" in peers:
        chosen["numpy"] = _numpy_call(form, X, W, b, delta)
    if "torch" in peers:
        chosen["torch"] = _torch_call(form, X, W, b, delta)
    return chosen


def _numpy_call(form: str, X: Array, W: Array, b: Array, delta: Array) -> Callable[[], Any]:
    calls: Calls = {
        "forward": lambda: np.dot(X, W) + b,
        "transposed": lambda: np.dot(delta, W.T),
        "gradient": lambda: (np.dot(X.T, delta), delta.sum(0)),
    }
    return calls[form]


def _torch_call(form: str, *arrays: Array) -> Callable[[], Any]:
    torch = import_module("torch")
    X, W, b, delta = (torch.from_numpy(array) for array in arrays)
    calls: Calls = {
        "forward": lambda: torch.addmm(b, X, W),
        "transposed": lambda: torch.mm(delta, W.t()),
        "gradient": lambda: (torch.mm(X.t(), delta), delta.sum(0)),
    }
    return calls[form]


@contextmanager
def peer_threads(threads: int, peers: Iterable[str]) -> Iterator[None]:
    """Let NumPy's BLAS and PyTorch use so many threads within the body."""
    with ExitStack() as stack:
        if "numpy" in peers:
            stack.enter_context(import_module("threadpoolctl").threadpool_limits(threads, user_api="blas"))
        if "torch" in peers:
            torch = import_module("torch")
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        yield
