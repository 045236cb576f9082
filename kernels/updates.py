"""The optimizers' updates of a stretch of parameters from its gradient, fused into the gradient's tiles.

With g the gradient (for weights with L2 regularisation, g + l2 w), r the learning rate:

    SGD        w <- w - r g
    momentum   v <- mu v - r g;  w <- w + v                       (Polyak, 1964; Sutskever et al., 2013, eq. 1-2)
    Nesterov   v <- mu v - r g;  w <- w + mu v - r g              (Sutskever et al., 2013, as Keras has it)
    Adam       m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
               w <- w - r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)    (Kingma and Ba, 2015, algorithm 1)

The numbers of an update come as `coefficients`, computed once a step by `step_coefficients`.
"""

from __future__ import annotations

import math

from .estimates import adam_direction
from .linking import DOUBLE_POINTER, INT, NUMBERS, inlined, kernel
from .simd import fma, full, lanes, load, store

WRITE_GRADIENT, SGD, MOMENTUM, NESTEROV, ADAM = range(5)
STATE_SLOTS = {WRITE_GRADIENT: 0, SGD: 0, MOMENTUM: 1, NESTEROV: 1, ADAM: 2}

# Settings of an optimizer, float64: what the user chose.
L2, DECAY_1, DECAY_2, EPSILON = range(4)  # DECAY_1 is the momentum, or Adam's beta_1; DECAY_2 Adam's beta_2
SETTINGS = 4

# Coefficients of one step: what the update multiplies by.
C_RATE, C_L2, C_DECAY_1, C_GAIN_1, C_DECAY_2, C_GAIN_2, C_EPSILON = range(7)
COEFFICIENTS = 8


@inlined
def step_coefficients(optimizer, settings, rate, step, coefficients):
    """Compute the coefficients of update number `step` (from 1) with learning rate `rate`.

    Adam's bias corrections are moved out of the elements: with c1 = 1 - b1^t, c2 = 1 - b2^t,
    r (m / c1) / (sqrt(v / c2) + eps) = (r sqrt(c2) / c1) m / (sqrt(v) + eps sqrt(c2)).
    """
    coefficients[C_RATE] = rate
    coefficients[C_L2] = settings[L2]
    coefficients[C_DECAY_1] = settings[DECAY_1]
    coefficients[C_GAIN_1] = 1.0 - settings[DECAY_1]
    coefficients[C_DECAY_2] = settings[DECAY_2]
    coefficients[C_GAIN_2] = 1.0 - settings[DECAY_2]
    coefficients[C_EPSILON] = settings[EPSILON]
    if optimizer == ADAM:
        correction_1 = -math.expm1(step * math.log(settings[DECAY_1])) if settings[DECAY_1] > 0.0 else 1.0
        correction_2 = -math.expm1(step * math.log(settings[DECAY_2])) if settings[DECAY_2] > 0.0 else 1.0
        coefficients[C_RATE] = rate * math.sqrt(correction_2) / correction_1
        coefficients[C_EPSILON] = settings[EPSILON] * math.sqrt(correction_2)


@kernel(INT, DOUBLE_POINTER, INT, INT, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def update(optimizer, coefficients, decays, count, w, g, slot_1, slot_2):
    """Update `count` (whole registers) parameters w from their gradient g.

    Parameters
    ----------
    optimizer : SGD, MOMENTUM, NESTEROV or ADAM
    coefficients : from `step_coefficients`
    decays : whether L2 regularisation applies (to weights, not to biases)
    slot_1, slot_2 : the optimizer's state: velocity; or first and second moment
    """
    step = lanes(w)
    rate = full(w, coefficients[C_RATE])
    l2 = full(w, coefficients[C_L2] if decays else 0.0)
    decay_1 = full(w, coefficients[C_DECAY_1])
    if optimizer == SGD:
        for i in range(0, count, step):
            weight = load(w, i)
            store(w, i, fma(-rate, fma(l2, weight, load(g, i)), weight))
    elif optimizer == MOMENTUM:
        for i in range(0, count, step):
            weight = load(w, i)
            velocity = fma(decay_1, load(slot_1, i), -rate * fma(l2, weight, load(g, i)))
            store(slot_1, i, velocity)
            store(w, i, weight + velocity)
    elif optimizer == NESTEROV:
        for i in range(0, count, step):
            weight = load(w, i)
            descent = -rate * fma(l2, weight, load(g, i))
            velocity = fma(decay_1, load(slot_1, i), descent)
            store(slot_1, i, velocity)
            store(w, i, weight + fma(decay_1, velocity, descent))
    elif optimizer == ADAM:
        gain_1 = full(w, coefficients[C_GAIN_1])
        decay_2 = full(w, coefficients[C_DECAY_2])
        gain_2 = full(w, coefficients[C_GAIN_2])
        epsilon = full(w, coefficients[C_EPSILON])
        for i in range(0, count, step):
            weight = load(w, i)
            slope = fma(l2, weight, load(g, i))
            first = fma(decay_1, load(slot_1, i), gain_1 * slope)
            second = fma(decay_2, load(slot_2, i), gain_2 * (slope * slope))
            store(slot_1, i, first)
            store(slot_2, i, second)
            store(w, i, fma(-rate, adam_direction(first, second, epsilon), weight))
