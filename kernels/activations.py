"""Activations and their derivatives, on blocks of a panel.

Most derivatives are computed from the activation's own output a = f(z), so that z need not be kept:

    sigmoid       1 / (1 + e^-z)                        a (1 - a)
    tanh          tanh z                                1 - a^2
    relu          z where z >= 0, else 0                1 where a > 0, else 0
    leaky relu    z where z >= 0, else alpha z          1 where a > 0, else alpha
    elu           z where z >= 0, else alpha (e^z - 1)  1 where a > 0, else a + alpha
    selu          scale elu(z), alpha and scale given   scale where a > 0, else a + scale alpha
    softplus      log(1 + e^z)                          1 - e^-a
    exponential   e^z                                   a
    step          1 where z >= 0, else 0                0
    sign          1 where z >= 0, else -1               0

(Bishop, Pattern Recognition and Machine Learning, 2006, section 5.3; Clevert et al., 2016, for elu; Klambauer et al.,
Self-Normalizing Neural Networks, 2017, for selu.) Step and sign are for networks whose weights are set by hand:
gradient descent learns nothing through them.

Others take the same value at two places, and their derivative by z, the slope, is kept in the forward pass:

    gelu          z Phi(z), Phi the normal distribution function     Phi(z) + z Phi'(z)
    silu          z s(z), s the sigmoid                              s(z) (1 + z (1 - s(z)))

(Hendrycks and Gimpel, Gaussian Error Linear Units, 2016; Elfwing et al., Sigmoid-Weighted Linear Units for Neural
Network Function Approximation in Reinforcement Learning, 2018.)

Softmax is not a function of one element; it works on whole rows, a register of rows at a time (`panels`).
"""

from __future__ import annotations

from .elementary import exp, expm1, normal_cdf, normal_density, sigmoid, softplus, tanh
from .linking import DOUBLE, INT, NUMBERS, inlined, inlined_always, kernel
from .lockstep import at_once, load_several, store_several
from .panels import gather_rows, gathered_size, scatter_rows
from .simd import (
    Lanes,
    fma,
    full,
    lanes,
    load,
    maximum,
    shift,
    store,
    vector_function,
)

(IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, SOFTMAX, SELU, SOFTPLUS, EXPONENTIAL, STEP, SIGN, GELU, SILU, PRELU,
 CUSTOM) = range(16)

# Those whose derivative cannot be computed from their output.
KEEPS_SLOPE = (GELU, SILU, PRELU, CUSTOM)

# With these the mean 0 and variance 1 of a layer's inputs carry over to its outputs (Klambauer et al., 2017).
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946

# Phi and the sigmoid are 0 or 1, and their derivatives 0, from here on; they are not multiplied by infinity.
FAR = 1000.0


@vector_function
def _relu(z: Lanes) -> Lanes:
    """max(z, 0), NaN kept."""
    return z.where("<", 0.0, 0.0, z).settled()


@vector_function
def _leaky_relu(z: Lanes, slope: Lanes) -> Lanes:
    return z.where("<", 0.0, slope * z, z).settled()


@vector_function
def _elu(z: Lanes, exponential: Lanes) -> Lanes:
    return z.where("<", 0.0, exponential, z).settled()


@vector_function
def _step(z: Lanes, below: Lanes) -> Lanes:
    """1 for z >= 0, else `below`; NaN kept."""
    return z.where(">=", 0.0, 1.0, z.where("<", 0.0, below, z)).settled()


@vector_function
def _not_far(z: Lanes) -> Lanes:
    """The number from -FAR to FAR that is nearest to z; NaN kept."""
    low = z.where("<", -FAR, -FAR, z)
    return low.where(">", FAR, FAR, low)


@vector_function
def _relu_backward(delta: Lanes, a: Lanes) -> Lanes:
    return a.where(">", 0.0, delta, 0.0).settled()


@vector_function
def _leaky_relu_backward(delta: Lanes, a: Lanes, slope: Lanes) -> Lanes:
    return a.where("<=", 0.0, slope * delta, delta).settled()


@vector_function
def _elu_backward(delta: Lanes, a: Lanes, alpha: Lanes) -> Lanes:
    return a.where("<=", 0.0, delta * (a + alpha), delta).settled()


@kernel(INT, DOUBLE, NUMBERS, INT)
def activate(code, alpha, block, count):
    """Replace z by f(z) in `count` (whole registers) numbers; not for softmax, prelu and custom activations.

    `alpha` is the slope of leaky relu and the alpha of elu.
    """
    step, several, last = lanes(block), at_once(block), count - lanes(block)
    if code == RELU:
        for i in range(0, count, step):
            store(block, i, _relu(load(block, i)))
    elif code == SIGMOID:
        for i in range(0, count, several):
            store_several(block, i, last, sigmoid(load_several(block, i, last)))
    elif code == TANH:
        for i in range(0, count, several):
            store_several(block, i, last, tanh(load_several(block, i, last)))
    elif code == LEAKY_RELU:
        for i in range(0, count, step):
            store(block, i, _leaky_relu(load(block, i), alpha))
    elif code in (ELU, SELU):
        alpha, scale = (SELU_ALPHA, SELU_SCALE) if code == SELU else (alpha, 1.0)
        for i in range(0, count, several):
            z = load_several(block, i, last)
            store_several(block, i, last, _elu(z, expm1(z) * alpha) * scale)
    elif code == SOFTPLUS:
        for i in range(0, count, several):
            store_several(block, i, last, softplus(load_several(block, i, last)))
    elif code == EXPONENTIAL:
        for i in range(0, count, several):
            store_several(block, i, last, exp(load_several(block, i, last)))
    elif code in (STEP, SIGN):
        below = 0.0 if code == STEP else -1.0
        for i in range(0, count, step):
            store(block, i, _step(load(block, i), below))
    elif code == GELU:
        for i in range(0, count, several):
            z = load_several(block, i, last)
            store_several(block, i, last, maximum(-FAR, z) * normal_cdf(z))
    elif code == SILU:
        for i in range(0, count, several):
            z = load_several(block, i, last)
            store_several(block, i, last, maximum(-FAR, z) * sigmoid(z))


@inlined
def keeps_slope(code):
    """Whether the derivative of an activation is kept in the forward pass, as it cannot be had from the output."""
    return code in KEEPS_SLOPE


@kernel(INT, NUMBERS, NUMBERS, INT)
def activate_and_keep(code, block, slopes, count):
    """Replace z by f(z) in `count` (whole registers) numbers, and write f'(z) to `slopes`; for gelu and silu."""
    several, last = at_once(block), count - lanes(block)
    if code == GELU:
        for i in range(0, count, several):
            z = load_several(block, i, last)
            probability = normal_cdf(z)
            store_several(slopes, i, last, fma(_not_far(z), normal_density(z), probability))
            store_several(block, i, last, maximum(-FAR, z) * probability)
    elif code == SILU:
        for i in range(0, count, several):
            z = load_several(block, i, last)
            s = sigmoid(z)
            store_several(slopes, i, last, s * fma(_not_far(z), 1.0 - s, 1.0))
            store_several(block, i, last, maximum(-FAR, z) * s)


@kernel(INT, DOUBLE, NUMBERS, NUMBERS, INT)
def multiply_by_derivative(code, alpha, deltas, outputs, count):
    """Multiply `count` (whole registers) deltas by f'(z), computed from the outputs f(z).

    Not for softmax, and not for activations that keep their slopes.
    """
    step = lanes(deltas)
    if code == RELU:
        for i in range(0, count, step):
            store(deltas, i, _relu_backward(load(deltas, i), load(outputs, i)))
    elif code == SIGMOID:
        for i in range(0, count, step):
            a = load(outputs, i)
            store(deltas, i, load(deltas, i) * (a * (1.0 - a)))
    elif code == TANH:
        for i in range(0, count, step):
            a = load(outputs, i)
            store(deltas, i, load(deltas, i) * fma(-a, a, 1.0))
    elif code == LEAKY_RELU:
        for i in range(0, count, step):
            store(deltas, i, _leaky_relu_backward(load(deltas, i), load(outputs, i), alpha))
    elif code in (ELU, SELU):
        alpha, scale = (SELU_ALPHA, SELU_SCALE) if code == SELU else (alpha, 1.0)
        for i in range(0, count, step):
            elu = load(outputs, i) * (1.0 / scale)
            store(deltas, i, _elu_backward(load(deltas, i), elu, alpha) * scale)
    elif code == SOFTPLUS:
        several, last = at_once(deltas), count - lanes(deltas)
        for i in range(0, count, several):
            slope = -expm1(-load_several(outputs, i, last))
            store_several(deltas, i, last, load_several(deltas, i, last) * slope)
    elif code == EXPONENTIAL:
        for i in range(0, count, step):
            store(deltas, i, load(deltas, i) * load(outputs, i))
    elif code in (STEP, SIGN):
        for i in range(0, count, step):
            store(deltas, i, load(deltas, i) * 0.0)


@kernel(NUMBERS, NUMBERS, INT)
def multiply_by_slopes(deltas, slopes, count):
    """Multiply `count` (whole registers) deltas by the f'(z) that `activate_and_keep` wrote."""
    step = lanes(deltas)
    for i in range(0, count, step):
        store(deltas, i, load(deltas, i) * load(slopes, i))


@inlined_always
def softmax_exponentials(z, units, target):
    """Write exp(z - max z) to `target`, a register of rows at a time; return (max z, sum of exponentials).

    z and target hold a register for each unit, with a row of the batch in each lane (`gather_rows`). The maximum may
    pass over a NaN: its own exponential then makes the sum NaN.
    """
    step = lanes(z)
    top = load(z, 0)
    for i in range(step, units * step, step):
        top = maximum(top, load(z, i))
    total = full(z, 0.0)
    for i in range(0, units * step, step):
        e = exp(load(z, i) - top)
        store(target, i, e)
        total = total + e
    return top, total


@kernel(NUMBERS, INT, INT, INT, INT, NUMBERS)
def softmax_rows(kernels, block, rows, begin, end, units, scratch):
    """Replace pre-activations by their softmax, exp(z_i) / sum over j of exp(z_j), in the rows `begin` to `end`.

    Parameters
    ----------
    block, rows : outputs in panels of `rows` rows
    scratch : `layout.row_scratch_size` numbers
    """
    step = lanes(block)
    for first in range(begin, end, step):
        count = min(step, end - first)
        gather_rows(kernels, block, rows, first, count, units, scratch)
        _, total = softmax_exponentials(scratch, units, scratch)
        for i in range(0, units * step, step):
            store(scratch, i, load(scratch, i) / total)
        scatter_rows(kernels, scratch, block, rows, first, count, units)


@kernel(NUMBERS, NUMBERS, INT, INT, INT, INT, NUMBERS)
def softmax_backward_rows(kernels, deltas, outputs, rows, begin, end, units, scratch):
    """Turn loss by softmax outputs into loss by pre-activations: p_i (g_i - sum over j of p_j g_j).

    Parameters
    ----------
    deltas, outputs, rows : in panels of `rows` rows; the rows `begin` to `end` are turned
    scratch : `layout.row_scratch_size` numbers
    """
    step = lanes(deltas)
    p, g = scratch, shift(scratch, gathered_size(units, scratch))
    for first in range(begin, end, step):
        count = min(step, end - first)
        gather_rows(kernels, outputs, rows, first, count, units, p)
        gather_rows(kernels, deltas, rows, first, count, units, g)
        mean = full(deltas, 0.0)
        for i in range(0, units * step, step):
            mean = fma(load(p, i), load(g, i), mean)
        for i in range(0, units * step, step):
            store(g, i, load(p, i) * (load(g, i) - mean))
        scatter_rows(kernels, g, deltas, rows, first, count, units)
