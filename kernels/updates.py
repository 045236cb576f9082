"""The optimizers' updates of a stretch of parameters from its gradient, fused into the gradient's tiles.

With g the gradient (for weights with L2 regularisation, g + l2 w), r the learning rate:

    SGD        w <- w - r g
    momentum   v <- mu v - r g;  w <- w + v                       (Polyak, 1964; Sutskever et al., 2013, eq. 1-2)
    Nesterov   v <- mu v - r g;  w <- w + mu v - r g              (Sutskever et al., 2013, as Keras has it)
    Adam       m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
               w <- w - r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)    (Kingma and Ba, 2015, algorithm 1;
               eps / sqrt(1 - b2^t) in place of eps with EPSILON_HAT, as before their section 2.1)
    Adagrad    s <- s + g^2;  w <- w - r g / (sqrt(s) + eps)      (Duchi, Hazan and Singer, 2011)
    Adadelta   s <- rho s + (1 - rho) g^2;  d = g sqrt(u + eps) / sqrt(s + eps);
               u <- rho u + (1 - rho) d^2;  w <- w - r d          (Zeiler, 2012, algorithm 1)
    RMSprop    s <- a s + (1 - a) g^2;  v <- mu v + g / (sqrt(s) + eps);  w <- w - r v
                                                                  (Tieleman and Hinton, 2012; as PyTorch has it)
    NAdam      m and v as in Adam;  w <- w - r ((1 - mu_t) / (1 - p_t) g + mu_(t+1) / (1 - p_(t+1)) m)
                                               / (sqrt(v / (1 - b2^t)) + eps),
               mu_t = b1 (1 - 0.96^(0.004 t) / 2),  p_t = mu_1 mu_2 ... mu_t       (Dozat, 2016; as PyTorch has it)

Before that, `regularise` clips the gradient, adds the slope of an L1 penalty and lets the weights decay.
The numbers of both come as `coefficients`, computed once a step by `step_coefficients`.
"""

from __future__ import annotations

import math

from .estimates import adam_direction
from .linking import DOUBLE_POINTER, INT, NUMBERS, inlined, kernel
from .lockstep import at_once, load_several, store_several
from .simd import Lanes, fma, full, lanes, load, sqrt, store, vector_function

WRITE_GRADIENT, SGD, MOMENTUM, NESTEROV, ADAM, ADAGRAD, ADADELTA, RMSPROP, NADAM = range(9)
STATE_SLOTS = {WRITE_GRADIENT: 0, SGD: 0, MOMENTUM: 1, NESTEROV: 1, ADAM: 2, ADAGRAD: 1, ADADELTA: 2, RMSPROP: 2,
               NADAM: 2}

# Settings of an optimizer and of regularisation, float64: what the user chose; 0 turns each of the last four off.
# DECAY_1 is the momentum, or beta_1 of Adam and NAdam; DECAY_2 their beta_2, Adadelta's rho or RMSprop's decay.
# EPSILON_HAT is 1 where Adam's epsilon is added to the uncorrected second moment. LOSS_SCALE is a factor on the
# gradient of the mean loss; L2_OF_SUM the strength of L2 beside the sum of a batch's losses, so that its share of the
# mean falls with the number of rows.
(L2, DECAY_1, DECAY_2, EPSILON, EPSILON_HAT, L1, WEIGHT_DECAY, CLIP_VALUE, CLIP_NORM, DECAYS_BIASES, LOSS_SCALE,
 L2_OF_SUM) = range(12)
SETTINGS = 12
OF_OPTIMIZER = slice(DECAY_1, EPSILON_HAT + 1)  # those that the update rule itself has

# Coefficients of one step: what the update multiplies by. Each thread has its own, in cache lines of their own.
(C_RATE, C_L2, C_DECAY_1, C_GAIN_1, C_DECAY_2, C_GAIN_2, C_EPSILON, C_SLOPE, C_MOMENT, C_L1, C_WEIGHT_DECAY,
 C_CLIP_VALUE, C_REGULARISES, C_DECAYS_BIASES) = range(14)
COEFFICIENTS = 16

# Steps after which 1 - p_t of NAdam is 1: mu_t is at most 0.5 + 0.0001 t, so that p_64 is below 2^-54.
NADAM_STEPS = 64


@inlined
def step_coefficients(optimizer, settings, rate, step, total_weight, coefficients):
    """Compute the coefficients of update number `step` (from 1) with learning rate `rate`.

    `total_weight` is the sum of the weights of the batch's rows.

    Adam's bias corrections are moved out of the elements: with c1 = 1 - b1^t, c2 = 1 - b2^t,
    r (m / c1) / (sqrt(v / c2) + eps) = (r sqrt(c2) / c1) m / (sqrt(v) + eps sqrt(c2)).

    NAdam's product of momenta is made anew in each step, so that it depends neither on where training was cut into
    calls nor on the thread.
    """
    decay_1, decay_2 = settings[DECAY_1], settings[DECAY_2]
    coefficients[C_RATE] = rate
    coefficients[C_L2] = settings[L2] + (settings[L2_OF_SUM] / total_weight if total_weight > 0.0 else 0.0)
    coefficients[C_DECAY_1] = decay_1
    coefficients[C_GAIN_1] = 1.0 - decay_1
    coefficients[C_DECAY_2] = decay_2
    coefficients[C_GAIN_2] = 1.0 - decay_2
    coefficients[C_EPSILON] = settings[EPSILON]
    coefficients[C_L1] = settings[L1]
    coefficients[C_WEIGHT_DECAY] = rate * settings[WEIGHT_DECAY]
    coefficients[C_CLIP_VALUE] = settings[CLIP_VALUE] if settings[CLIP_VALUE] > 0.0 else math.inf
    regularises = settings[L1] > 0.0 or settings[WEIGHT_DECAY] > 0.0 or settings[CLIP_VALUE] > 0.0
    coefficients[C_REGULARISES] = 1.0 if regularises else 0.0
    decays = settings[L1] > 0.0 or coefficients[C_L2] > 0.0 or settings[WEIGHT_DECAY] > 0.0
    coefficients[C_DECAYS_BIASES] = settings[DECAYS_BIASES] if decays else 1.0
    if optimizer == ADAM or optimizer == NADAM:  # noqa: SIM109 (`in` would be compiled as a function of its own)
        correction_2 = -math.expm1(step * math.log(decay_2)) if decay_2 > 0.0 else 1.0
        coefficients[C_RATE] = rate * math.sqrt(correction_2)
        if settings[EPSILON_HAT] == 0.0:
            coefficients[C_EPSILON] = settings[EPSILON] * math.sqrt(correction_2)
    if optimizer == ADAM:
        correction_1 = -math.expm1(step * math.log(decay_1)) if decay_1 > 0.0 else 1.0
        coefficients[C_RATE] /= correction_1
    elif optimizer == NADAM:
        momentum = decay_1 * (1.0 - 0.5 * 0.96 ** (0.004 * step))
        following = decay_1 * (1.0 - 0.5 * 0.96 ** (0.004 * (step + 1)))
        product = 0.0
        if step <= NADAM_STEPS:
            product = 1.0
            for t in range(1, step + 1):
                product *= decay_1 * (1.0 - 0.5 * 0.96 ** (0.004 * t))
        coefficients[C_SLOPE] = (1.0 - momentum) / (1.0 - product)
        coefficients[C_MOMENT] = following / (1.0 - product * following)
    elif optimizer == ADAGRAD:  # a sum of squares where RMSprop has their moving average
        coefficients[C_DECAY_2] = 1.0
        coefficients[C_GAIN_2] = 1.0


@inlined
def biases_decay(coefficients):
    """What `update` takes for `decays` where the parameters are biases: 1, too, where nothing decays at all."""
    return 1 if coefficients[C_DECAYS_BIASES] != 0.0 else 0


@vector_function
def clip(x: Lanes, limit: Lanes) -> Lanes:
    """x, but not beyond `limit` in either direction; NaN stays NaN."""
    x = x.where(">", limit, limit, x)
    return x.where("<", -limit, -limit, x)


@vector_function
def sign(x: Lanes) -> Lanes:
    """1, -1 or, for zero and NaN, 0."""
    return x.where(">", 0.0, 1.0, x.where("<", 0.0, -1.0, 0.0))


@kernel(DOUBLE_POINTER, INT, INT, NUMBERS, NUMBERS)
def regularise(coefficients, decays, count, w, g):
    """Change `count` (whole registers) parameters w and their gradient g as regularisation asks, before an update.

        g <- min(max(g, -c), c) + l1 sign(w);  w <- w - r decay w

    The gradient of the loss is clipped; what L1 (Tibshirani, 1996), and L2 in `update`, add to it is not. The weights
    decay apart from the gradient (Loshchilov and Hutter, 2019, algorithm 2), by the learning rate as scheduled.

    Parameters
    ----------
    coefficients : from `step_coefficients`
    decays : whether L1 and the decay of weights apply (to weights, not to biases)
    """
    limit = full(w, coefficients[C_CLIP_VALUE])
    l1 = full(w, coefficients[C_L1] if decays else 0.0)
    decay = full(w, coefficients[C_WEIGHT_DECAY] if decays else 0.0)
    for i in range(0, count, lanes(w)):
        weight = load(w, i)
        store(g, i, fma(l1, sign(weight), clip(load(g, i), limit)))
        # A factor 1 - decay in float32 would be off by up to 3e-8, each step the same way: 0.3 % of a decay of 1e-5.
        store(w, i, fma(-decay, weight, weight))


@kernel(INT, DOUBLE_POINTER, INT, INT, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def update(kernels, optimizer, coefficients, decays, count, w, g, slot_1, slot_2):
    """Update `count` (whole registers) parameters w from their gradient g, regularised as the coefficients say.

    Parameters
    ----------
    optimizer : any code but WRITE_GRADIENT
    coefficients : from `step_coefficients`
    decays : whether regularisation applies (to weights; to biases only if asked for)
    slot_1, slot_2 : the optimizer's state: velocity; or first and second moment; or what the squares of the gradients
        have come to, and then Adadelta's mean square of the changes, or RMSprop's velocity if it has momentum
    """
    if coefficients[C_REGULARISES] != 0.0:
        regularise(kernels, coefficients, decays, count, w, g)
    step, several, last = lanes(w), at_once(w), count - lanes(w)
    rate, l2 = coefficients[C_RATE], coefficients[C_L2] if decays else 0.0
    decay_1, gain_1 = coefficients[C_DECAY_1], coefficients[C_GAIN_1]
    decay_2, gain_2 = coefficients[C_DECAY_2], coefficients[C_GAIN_2]
    epsilon = coefficients[C_EPSILON]
    # The formulas with roots and quotients are long, and go in lockstep. The last register may be read several times,
    # but always before it is written.
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
    elif optimizer in (ADAM, NADAM):
        of_slope, of_moment = coefficients[C_SLOPE], coefficients[C_MOMENT]
        for i in range(0, count, several):
            weight = load_several(w, i, last)
            slope = fma(l2, weight, load_several(g, i, last))
            first = fma(decay_1, load_several(slot_1, i, last), gain_1 * slope)
            second = fma(decay_2, load_several(slot_2, i, last), gain_2 * (slope * slope))
            store_several(slot_1, i, last, first)
            store_several(slot_2, i, last, second)
            if optimizer == NADAM:
                first = fma(of_moment, first, of_slope * slope)
            store_several(w, i, last, fma(-rate, adam_direction(first, second, epsilon), weight))
    elif optimizer == ADADELTA:
        for i in range(0, count, several):
            weight = load_several(w, i, last)
            slope = fma(l2, weight, load_several(g, i, last))
            squares = fma(decay_2, load_several(slot_1, i, last), gain_2 * (slope * slope))
            changes = load_several(slot_2, i, last)
            change = sqrt(changes + epsilon) / sqrt(squares + epsilon) * slope
            store_several(slot_1, i, last, squares)
            store_several(slot_2, i, last, fma(decay_2, changes, gain_2 * (change * change)))
            store_several(w, i, last, fma(-rate, change, weight))
    elif optimizer == RMSPROP and coefficients[C_DECAY_1] > 0.0:
        for i in range(0, count, several):
            weight = load_several(w, i, last)
            slope = fma(l2, weight, load_several(g, i, last))
            squares = fma(decay_2, load_several(slot_1, i, last), gain_2 * (slope * slope))
            velocity = fma(decay_1, load_several(slot_2, i, last), adam_direction(slope, squares, epsilon))
            store_several(slot_1, i, last, squares)
            store_several(slot_2, i, last, velocity)
            store_several(w, i, last, fma(-rate, velocity, weight))
    else:  # ADAGRAD, or RMSPROP without momentum
        for i in range(0, count, several):
            weight = load_several(w, i, last)
            slope = fma(l2, weight, load_several(g, i, last))
            squares = fma(decay_2, load_several(slot_1, i, last), gain_2 * (slope * slope))
            store_several(slot_1, i, last, squares)
            store_several(w, i, last, fma(-rate, adam_direction(slope, squares, epsilon), weight))
