"""Between the model and the kernels: the memory that a compiled call works in, and the call itself."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from .arrays import Source, Targets, check_inputs, require_finite
from .augmentation import Augmentation
from .kernels import epoch, layout
from .kernels.activations import KEEPS_SLOPE, SOFTMAX
from .kernels.augmentation import IMAGES_AT_ONCE, augment_rows, scratch_size
from .kernels.deferred import limit_norms
from .kernels.layout import address_of
from .kernels.linking import FLOATS, kernel_table
from .kernels.noise import add_noise, drop
from .kernels.read_ahead import LIST_FIELDS
from .kernels.shares import team_memory_size
from .kernels.simd import TILE_ROWS, TILE_VECTORS, lanes_of
from .kernels.special import maxout, maxout_backward
from .kernels.threading_layer import CALL_TO_STEP, LEAST_PARALLEL_WORK
from .kernels.updates import COEFFICIENTS, LOSS_SCALE, SETTINGS
from .thread_choice import ThreadChoice
from .threads import get_num_threads, team_of

Array = NDArray[Any]

# A small network with a large batch is trained in groups of rows (kernels.epoch); these decide when and how.
LARGEST_GROUPED_NETWORK = 1 << 15  # parameters
LEAST_GROUP_ROWS = 128
MOST_GROUPS = 16
MOST_PASS_ROWS = 1024  # rows of a batch that go through a network at a time
PASS_BYTES = 96 << 10  # outputs and deltas of the rows that a group works on at a time, within the second-level cache

NEAR_BYTES = 1 << 20  # inputs of this size stay in the caches from one epoch to the next

# Rows are predicted in chunks, a thread taking whole ones while the weights fit its caches. All threads go through
# the chunks of a larger network together, each with its own share of the weights.
CHUNK_BYTES = 1 << 19  # inputs and outputs of a chunk, within the second-level cache
CHUNK_ROWS = (64, 256)
LEAST_CHUNK_ROWS = 12
SHARED_CHUNK_ROWS = 256
LARGEST_UNSHARED_BYTES = 1 << 20  # of parameters


@dataclass
class Network:
    """A network as the kernels see it."""

    table: Array  # of layers, kernels.layout
    numbers: Array  # float64 (rows of the table, layout.LAYER_SETTINGS)
    parameters: Array  # all weights and biases, in panels
    mean: Array  # (inputs,) subtracted from each input row
    scale: Array  # (inputs,) that it is then multiplied by
    standardised: bool  # whether mean and scale differ from 0 and 1
    calls: threading.local = field(default_factory=threading.local)  # what each thread keeps for its next prediction

    @functools.cached_property
    def dtype(self) -> np.dtype[Any]:
        return self.parameters.dtype

    @functools.cached_property
    def inputs(self) -> int:
        """Number of inputs."""
        return int(self.table[0, layout.INPUTS])

    @functools.cached_property
    def outputs(self) -> int:
        """Number of outputs."""
        return int(self.table[-1, layout.UNITS])

    def reads_directly(self, X: Any) -> bool:
        """Whether X is an array of the network's dtype and number of inputs, aligned and in C order."""
        return (type(X) is np.ndarray and X.dtype == self.dtype and X.ndim == 2 and X.shape[1] == self.inputs
                and X.flags.carray)

    @functools.cached_property
    def work(self) -> int:
        """Multiply-adds of one row, forward."""
        return int(layout.work_of(self.table).sum())

    @functools.cached_property
    def training_work(self) -> int:
        """Multiply-adds of one row in training: forward, gradient, and delta, which the first layer does not pass back.
        """
        return 3 * self.work - int(layout.work_of(self.table)[0])

    @functools.cached_property
    def shares_chunks(self) -> bool:
        """Whether all threads go through each chunk of a prediction together."""
        return self.parameters.nbytes > LARGEST_UNSHARED_BYTES

    @functools.cached_property
    def chunk_rows(self) -> int:
        """Most rows to predict at a time."""
        if self.shares_chunks:
            return SHARED_CHUNK_ROWS
        row_bytes = (self.inputs + int(self.table[:, layout.PADDED].sum())) * self.dtype.itemsize
        return min(max(CHUNK_BYTES // row_bytes, CHUNK_ROWS[0]), CHUNK_ROWS[1])


@functools.cache
def _compile_entries(dtype: np.dtype[Any]) -> None:
    """Compile the entry points, or load them from the cache, so that no timed call does."""
    epoch.run.compile((types.int64, types.int64, types.int64[::1]))
    rows = FLOATS[dtype][:, ::1]
    epoch.predict.compile((types.int64[::1], rows, rows, types.int64))


class Call:
    """The memory and the arguments of compiled calls on one network, for up to `rows` rows at a time.

    Parameters
    ----------
    network : Network
    rows : int
        Rows in a workspace: of a batch, a group or a chunk.
    threads : int
        Number of threads that memory is made for.
    shared : bool
        Whether all threads share one workspace (training by panels) or have one each.
    training : bool
        Whether gradients will be computed.
    drops : bool
        Whether the layers' dropout applies.
    augmentation : Augmentation, optional
        How the images in the rows are changed.
    """

    def __init__(self, network: Network, rows: int, threads: int, *, shared: bool, training: bool,
                 drops: bool = False, augmentation: Augmentation | None = None) -> None:
        self.context = np.zeros(layout.CONTEXT_FIELDS, np.int64)
        self.network = network
        self.rows = rows
        self.threads = threads
        self._kept: dict[int, Any] = {}
        self._as_made: tuple[Array, dict[int, Any]] = self.context, self._kept
        dtype = network.dtype
        lanes = lanes_of(dtype.itemsize)
        width = TILE_VECTORS * lanes
        table = network.table.copy()
        inputs = int(table[0, layout.INPUTS])
        size = 0

        def reserve(count: int) -> int:
            nonlocal size
            place = size
            size += layout.round_up(count, layout.ALIGNMENT // dtype.itemsize)
            return place

        for layer in table:
            layer[layout.OUTPUTS] = reserve(rows * int(layer[layout.PADDED]))
            if not drops:
                layer[layout.DROPOUT] = 0
            if not training:
                continue
            layer[layout.DELTAS] = reserve(rows * int(layer[layout.PADDED]))
            if layer[layout.DROPOUT] or layer[layout.ACTIVATION] in KEEPS_SLOPE:
                layer[layout.KEPT] = reserve(rows * int(layer[layout.PADDED]))
        if not training:  # evaluation leaves what the loss is derived by there
            table[-1, layout.DELTAS] = reserve(rows * int(table[-1, layout.PADDED]))
        self.context[layout.STAGED] = reserve(rows * layout.round_up(inputs, lanes))
        self.context[layout.WORKSPACE_SIZE] = 0 if shared else size
        self.keep(layout.WORKSPACE, layout.aligned_zeros(size if shared else size * threads, dtype))

        size = 0
        reserve((width + 1) * width)
        whole_rows = [int(layer[layout.UNITS]) for i, layer in enumerate(table)
                      if i == len(table) - 1 or layer[layout.ACTIVATION] == SOFTMAX]
        self.context[layout.SCRATCH_ROWS] = reserve(layout.row_scratch_size(max(whole_rows), dtype.itemsize))
        above = table[1:, layout.UNITS]
        self.context[layout.SCRATCH_PANEL] = reserve(width * (int(above.max(initial=0)) + 1))
        self.context[layout.SCRATCH_LINE] = reserve(inputs)
        if augmentation is not None:
            self.context[layout.SCRATCH_IMAGE] = reserve(scratch_size(*augmentation.shape))
            self.context[layout.SCRATCH_AUGMENTED] = reserve(IMAGES_AT_ONCE * inputs)
        self.context[layout.SCRATCH_SIZE] = size
        self.keep(layout.SCRATCH, layout.aligned_zeros(size * threads, dtype))

        self.keep(layout.LAYERS, table)
        self.keep(layout.LAYER_NUMBERS, network.numbers)
        self.keep(layout.X_MEAN, network.mean)
        self.keep(layout.X_SCALE, network.scale)
        self.context[layout.X_STANDARDISED] = network.standardised
        self.keep(layout.COEFFICIENTS, np.zeros(COEFFICIENTS * threads))
        self.keep(layout.AHEAD, layout.aligned_zeros(LIST_FIELDS * threads, np.dtype(np.int64)))
        self.keep(layout.TEAM, layout.aligned_zeros(team_memory_size(len(table), threads), np.dtype(np.int64)))
        needed = epoch.TRAINING if training else epoch.PREDICTION
        compile_entries = functools.partial(_compile_entries, dtype)
        self.keep(layout.KERNELS, kernel_table(dtype, *needed, meanwhile=compile_entries))
        compile_entries()
        if (table[:, layout.PIECES] > 0).any():
            kernel_table(dtype, maxout, maxout_backward)
        if (table[:, layout.DROPOUT] > 0).any():
            kernel_table(dtype, drop)
        self.context[layout.DEPTH] = len(table)
        self.keep(layout.PARAMETERS, network.parameters)
        self.context[layout.COUNT] = len(network.parameters)
        if augmentation is not None:
            self.augment(augmentation)

    def keep(self, place: int, array: Array) -> None:
        """Set a field of the context to the address of an array, and keep the array alive."""
        self._kept[place] = array
        self.context[place] = address_of(array)

    def kept(self, place: int) -> Any:
        """Return the array whose address a field of the context is."""
        return self._kept[place]

    def note_as_made(self) -> None:
        """Take note of all fields as they are, for `renew`."""
        self._as_made = self.context.copy(), dict(self._kept)

    def renew(self) -> None:
        """Set all fields to what they were at `note_as_made`; what the arrays hold is left as it is."""
        context, kept = self._as_made
        self.context[:] = context
        self._kept = dict(kept)

    def forget(self, *places: int) -> None:
        """Let go of arrays whose addresses are in the context, if there are any."""
        for place in places:
            self._kept.pop(place, None)
            self.context[place] = 0

    def forget_data(self) -> None:
        """Let go of the inputs, the targets and the weights of the samples."""
        self.forget(layout.X, layout.Y, layout.WEIGHTS_OF_SAMPLES)

    def set_inputs(self, source: Source) -> None:
        self._kept[layout.X] = source
        self.context[layout.X] = source.address
        self.context[layout.X_KIND] = source.kind
        self.context[layout.X_DIRECT] = source.array.dtype == self.network.dtype
        self.context[layout.X_STRIDE] = source.stride
        self.context[layout.X_FAR] = source.array.nbytes > NEAR_BYTES
        self.context[layout.SAMPLES] = source.rows

    def set_targets(self, targets: Targets) -> None:
        source = targets.source
        self._kept[layout.Y] = targets
        self.context[layout.Y] = source.address
        self.context[layout.Y_KIND] = source.kind
        self.context[layout.Y_STRIDE] = source.stride
        self.context[layout.LOSS] = targets.loss
        if targets.weights is None:
            self.forget(layout.WEIGHTS_OF_SAMPLES)
        else:
            self.keep(layout.WEIGHTS_OF_SAMPLES, targets.weights)
        self.keep(layout.LOSS_PARAMETER, targets.parameter)

    def disturb_inputs(self, dropout: float, noise: float) -> None:
        """Set the dropout of the inputs and the standard deviation of the noise added to them."""
        self.context[layout.INPUT_DROPOUT] = round(dropout * 2**32)
        if noise:
            self.keep(layout.INPUT_NOISE, np.array([noise]))
        else:
            self.context[layout.INPUT_NOISE] = 0
        if noise or dropout:
            kernel_table(self.network.dtype, add_noise, drop)

    def augment(self, augmentation: Augmentation) -> None:
        """Have the images in the rows changed at random as they are read; memory for it was made before."""
        self.keep(layout.AUGMENTATION, augmentation.settings())
        self.context[layout.IMAGE_HEIGHT], self.context[layout.IMAGE_WIDTH] = augmentation.shape
        self.keep(layout.ROW_NUMBERS, np.arange(IMAGES_AT_ONCE))
        kernel_table(self.network.dtype, augment_rows, add_noise)

    def set_steps(self, first: int, rates: Array) -> None:
        """Set the steps of the next call: one for each learning rate, from number `first`."""
        self.context[layout.FIRST_STEP] = first
        self.context[layout.STEPS_DONE] = first
        self.context[layout.LAST_STEP] = first + len(rates)
        self.keep(layout.RATES, rates)
        if layout.LOSSES not in self._kept or len(self._kept[layout.LOSSES]) != len(rates):
            self.keep(layout.LOSSES, np.zeros(len(rates)))
            self.keep(layout.STEP_WEIGHTS, np.zeros(len(rates)))

    def train(self, threads: int) -> None:
        """Run the steps that the context tells of."""
        self._run(epoch.TRAIN, threads)

    def predict(self, threads: int) -> None:
        """Run the prediction or evaluation that the context tells of."""
        self._run(epoch.PREDICT, threads)

    def _run(self, program: int, threads: int) -> None:
        with team_of(min(threads, self.threads)) as parts:
            epoch.run(program, parts, self.context)

    def predict_rows(self, X: Array, results: Array, threads: int) -> bool:
        """Predict the rows of X, which the network reads directly; return whether one of them is not finite."""
        with team_of(min(threads, self.threads)) as parts:
            epoch.predict(self.context, X, results, parts)
            if parts > 1:
                epoch.run(epoch.PREDICT, parts, self.context)
        return bool(self.context[layout.X_NOT_FINITE])


def groups_for(network: Network, batch: int) -> int:
    """Number of groups that the rows of a batch are trained in; 1 to train by panels."""
    if len(network.parameters) > LARGEST_GROUPED_NETWORK:
        return 1
    return max(1, min(MOST_GROUPS, batch // LEAST_GROUP_ROWS))


def training_call(network: Network, batch: int, *, gradients: bool = False, drops: bool = True,
                  pass_rows: int | None = None, augmentation: Augmentation | None = None) -> Call:
    """Return a call for training steps of up to `batch` rows.

    Parameters
    ----------
    gradients : bool
        Whether to make memory to write gradients to, although the update needs none.
    drops : bool
        Whether the layers' dropout applies.
    pass_rows : int, optional
        Most rows that go through the network at a time.
    augmentation : Augmentation, optional
        How the images in the rows are changed.
    """
    groups = groups_for(network, batch)
    rows = min(batch, MOST_PASS_ROWS if pass_rows is None else pass_rows)
    if groups > 1:
        row_bytes = 2 * int(network.table[:, layout.PADDED].sum()) * network.dtype.itemsize
        rows = min(max(TILE_ROWS, PASS_BYTES // row_bytes), -(-batch // groups))
    call = Call(network, rows, get_num_threads(), shared=groups == 1, training=True, drops=drops,
                augmentation=augmentation)
    call.context[layout.ROWS] = batch
    call.context[layout.GROUPS] = groups
    call.context[layout.PASS_ROWS] = rows
    call.context[layout.PHASES] = layout.GRADIENT | layout.UPDATE
    if (network.numbers[:, layout.MAX_NORM] > 0).any():
        call.context[layout.CONSTRAINED] = 1
        kernel_table(network.dtype, limit_norms)
    call.keep(layout.ROW_LOSSES, np.zeros(batch))
    settings = np.zeros(SETTINGS)
    settings[LOSS_SCALE] = 1.0
    call.keep(layout.SETTINGS, settings)
    if groups > 1 or batch > rows or gradients:
        keep_gradients(call, network)
    return call


def keep_gradients(call: Call, network: Network) -> None:
    """Make memory for a training call to write gradients and the sums of their squares to."""
    groups = int(call.context[layout.GROUPS])
    call.keep(layout.GRADIENTS, layout.aligned_zeros(groups * len(network.parameters), network.dtype))
    parts = -(-network.table[:, layout.PADDED] // (TILE_VECTORS * lanes_of(network.dtype.itemsize))) + 1
    call.keep(layout.SQUARES, np.zeros(int(parts.sum())))


def threads_for(work: int) -> int:
    """Number of threads for steps of `work` multiply-adds, one after the other."""
    return get_num_threads() if work >= LEAST_PARALLEL_WORK else 1


def threads_for_call(work: int) -> int:
    """Number of threads for a call of `work` multiply-adds on its own: a prediction, or a single step."""
    return threads_for(work // CALL_TO_STEP)


def take_prediction_call(network: Network, samples: int, threads: int) -> Call:
    """Take this thread's call for predictions and evaluations, with room for `samples` rows on `threads` threads.

    It is to be put back as ``network.calls.prediction``. Until then it is nobody else's: what interrupts a prediction,
    such as a handler of signals, and predicts itself gets another one.
    """
    call: Call | None = network.calls.__dict__.pop("prediction", None)
    if call is None or (call.rows < samples and call.rows < network.chunk_rows) or call.threads < threads:
        rows = min(network.chunk_rows, samples)
        call = Call(network, rows, threads, shared=network.shares_chunks, training=False)
        call.context[layout.SHARES_CHUNKS] = network.shares_chunks
        # Not `samples`, but what there is room for: the loss is summed by chunks, and has the same bits in every call.
        call.context[layout.ROWS] = rows
        call.keep(layout.ORDER, np.zeros(rows * threads, np.int64))
    return call


def _even_chunk_rows(call: Call, samples: int) -> int:
    """Return so many rows of a chunk that all threads have as many chunks, of equal length."""
    if call.context[layout.SHARES_CHUNKS]:
        return min(call.rows, samples)
    chunks = layout.round_up(-(-samples // call.rows), call.threads)
    return max(-(-samples // chunks), min(LEAST_CHUNK_ROWS, samples))


def _timed(network: Network, work: int, predict: Callable[[int], Any]) -> Any:
    """Call `predict`, of `work` multiply-adds, with the number of threads that `ThreadChoice` says."""
    choice: ThreadChoice | None = getattr(network.calls, "choice", None)
    many = threads_for_call(work)
    if choice is None or not choice.suits(work, many):
        choice = network.calls.choice = ThreadChoice(network.dtype, work, many)
    threads, _ = choice.next()
    began = time.perf_counter()
    result = predict(threads)
    choice.report(threads, 1, time.perf_counter() - began)
    return result


def predict(network: Network, X: Any) -> Array:
    """Return the network's outputs, (rows, outputs), for the argument X of a prediction.

    Raises
    ------
    TypeError, ValueError
        As `check_inputs`.
    """
    rows = len(X) if network.reads_directly(X) else 0
    if rows == 0:
        return _predict_converted(network, X)
    results = np.empty((rows, network.outputs), network.dtype)
    work = rows * network.work
    if work < CALL_TO_STEP * LEAST_PARALLEL_WORK:  # with as little Python as can be
        call = take_prediction_call(network, rows, threads=1)
        not_finite = epoch.predict(call.context, X, results, 1)
    else:
        call = take_prediction_call(network, rows, threads_for_call(work))
        call.context[layout.ROWS] = _even_chunk_rows(call, rows)
        not_finite = _timed(network, work, lambda threads: call.predict_rows(X, results, threads))
        call.context[layout.ROWS] = call.rows
    network.calls.prediction = call
    if not_finite:
        require_finite("X", X, network.dtype)
    return results


def _predict_converted(network: Network, X: Any) -> Array:
    """Do the same for what is no array of the network's dtype in C order."""
    source = check_inputs(X, network.inputs, network.dtype, finite=False, empty=True)
    # What has to be converted is searched in its own dtype: numbers may be too large for the model's.
    array = np.asarray(X)
    if array.dtype != network.dtype:
        require_finite("X", array, network.dtype)
    results = np.empty((source.rows, network.outputs), network.dtype)
    if source.rows:
        work = source.rows * network.work
        call = take_prediction_call(network, source.rows, threads_for_call(work))
        call.set_inputs(source)
        call.context[layout.ROWS] = _even_chunk_rows(call, source.rows)
        call.context[layout.ROW_LOSSES] = 0
        call.context[layout.RESULTS] = address_of(results)
        call.context[layout.X_NOT_FINITE] = 0
        _timed(network, work, call.predict)
        call.forget(layout.X)
        call.context[layout.ROWS] = call.rows
        network.calls.prediction = call
        if call.context[layout.X_NOT_FINITE]:
            require_finite("X", source.array, network.dtype)
    return results


def evaluate(network: Network, source: Source, targets: Targets) -> tuple[float, float]:
    """Return the mean loss, weighted if the targets have weights, and the share of right predictions, which is not."""
    work = source.rows * network.work
    call = take_prediction_call(network, source.rows, threads_for_call(work))
    call.set_inputs(source)
    call.set_targets(targets)
    chunks = -(-source.rows // call.rows)
    losses, hits = np.zeros(chunks), np.zeros(chunks)
    call.keep(layout.LOSSES, losses)
    call.keep(layout.HITS, hits)
    call.keep(layout.ROW_LOSSES, np.zeros(call.rows * call.threads))
    _timed(network, work, call.predict)
    call.forget_data()
    call.forget(layout.LOSSES, layout.HITS, layout.ROW_LOSSES)
    network.calls.prediction = call
    total = source.rows if targets.weights is None else targets.weights.sum()
    return float(losses.sum() / total), float(hits.sum() / source.rows)
