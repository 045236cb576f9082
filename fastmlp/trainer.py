"""The trainer: gradient descent on a model's parameters, step by step or for whole epochs."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import engine, lbfgs
from .architecture import warn_of_flat_layers
from .arrays import Source, Targets, check_inputs
from .augmentation import Augmentation
from .by_hand import StepByHand
from .checkpoints import load_trainer, save_trainer
from .fit_arguments import check_fit_arguments
from .fitting import Fit
from .history import History
from .kernels import layout
from .layers import MAX_DROPOUT
from .losses import Loss, check_loss
from .metrics import check_metrics
from .model import MLP, check_seed
from .optimizers import LBFGS, check_optimizer
from .schedules import MOST_STEPS, Schedule, Span, check_schedule, step_rates
from .thread_choice import ThreadChoice
from .training_calls import TrainingCalls
from .validation import check_flag, check_integer, check_number

FIRST_STEP = np.zeros(1, np.int64)

# Attributes of a trainer that cannot be set once it is made, and the checks of those that can.
FIXED = frozenset(("model", "loss", "optimizer", "schedule", "metrics", "augmentation"))
SETTING_CHECKS: dict[str, Callable[[Any], Any]] = {
    "learning_rate": lambda value: check_number("learning_rate", value, low=0.0, above=True),
    "batch_size": lambda value: check_integer("batch_size", value, low=1, high=1 << 31),
    "accumulation": lambda value: check_integer("accumulation", value, low=1, high=1 << 20),
    "l1": lambda value: check_number("l1", value, low=0.0),
    "l2": lambda value: check_number("l2", value, low=0.0),
    "weight_decay": lambda value: check_number("weight_decay", value, low=0.0),
    "clip_norm": lambda value: check_number("clip_norm", value, low=0.0),
    "clip_value": lambda value: check_number("clip_value", value, low=0.0),
    "input_dropout": lambda value: check_number("input_dropout", value, low=0.0, high=MAX_DROPOUT),
    "input_noise": lambda value: check_number("input_noise", value, low=0.0),
    "regularise_biases": lambda value: check_flag("regularise_biases", value),
    "seed": check_seed,
}
COUNTS = ("steps", "epochs")


class Trainer:
    """Trains a model by mini-batch gradient descent.

    Parameters
    ----------
    model : MLP
    loss : str or Loss
        "cross_entropy" (default; needs softmax output), "binary_cross_entropy" (needs sigmoid output), "poisson" (needs
        exponential output), "mean_squared_error", "half_squared_error", "mean_absolute_error", "huber", "hinge", a name
        given to `register_loss`, or an instance such as ``CrossEntropy(label_smoothing=0.1)``. The loss of a batch is
        the mean over its rows, weighted if samples have weights.
    optimizer : str or Optimizer
        "adam" (default), "sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adamw", "nadam", or an
        instance such as ``Adam(beta_1=0.8)``. Or "lbfgs", which trains on the whole set at once and does without
        learning_rate, batch_size, accumulation and seed (`fastmlp.optimizers.LBFGS`).
    learning_rate : float
        Above 0; default 1e-3, which suits Adam and its kin. "sgd", "momentum" and "nesterov" usually want 0.01 to 0.5,
        "adagrad" 0.01, "adadelta" 1. With a schedule the highest rate; a function gives rates of its own.
    schedule : str, Schedule, callable or None
        None (default) or "constant", "step", "exponential", "inverse_scaling", "cosine", "cosine_restarts",
        "one_cycle", "reduce_on_plateau", an instance from `fastmlp.schedules` such as ``WarmUp(epochs=1,
        then="cosine")``, or a function that takes the number of an update, from 0, and returns its learning rate.
        "cosine" and "one_cycle" run over the `epochs` of each `fit` call, the others over all of them.
    batch_size : int
        Rows of a mini-batch, default 32; the last batch of an epoch holds the rest. A set smaller than a batch is
        one batch.
    l2 : float
        Strength of L2 regularisation, at least 0; default 0. Adds ``l2 * W`` to the gradient of the weights, that is
        ``l2 / 2 * sum W**2`` to what is minimised; reported losses are without it.
    l1 : float
        Strength of L1 regularisation, at least 0; default 0. Adds ``l1 * sign(W)`` to the gradient of the weights.
    weight_decay : float, optional
        Decoupled weight decay: before each update the weights are multiplied by 1 - learning_rate * weight_decay
        (Loshchilov and Hutter, 2019). By default that of the optimizer: 0.01 for "adamw", else 0.
    regularise_biases : bool
        Whether l1, l2 and weight_decay apply to biases, too; default False.
    clip_norm : float
        Largest Euclidean norm of the gradient, all parameters together: a longer one is shortened to it. 0 (default)
        for any. (Pascanu et al., 2013)
    clip_value : float
        Largest absolute value of each element of the gradient: larger ones are set to it. 0 (default) for any.
    input_dropout : float
        Probability that an input is set to zero in training, from 0 (default) to 0.999, as `Dense` does for outputs.
    input_noise : float
        Standard deviation of the Gaussian noise that is added to inputs in training, after input_mean and input_std
        were applied; default 0.
    augmentation : Augmentation, optional
        How the images in the rows of X are changed at random, anew in every step, before input_mean and input_std.
    accumulation : int
        Number of batches whose gradients make one update, default 1: ``accumulation=4, batch_size=32`` takes the steps
        of ``batch_size=128`` with the memory of 32 rows.
    metrics : list, optional
        Names of `fastmlp.metrics.METRICS` ("accuracy", "f1", "top_5", "mae", "rmse", "r2" ...) or functions
        ``f(y, outputs)``, where y is what the loss reads: labels (n,), or numbers (n, outputs). After each epoch they
        are computed on the training data and the validation data, and they are what `evaluate` returns beside the loss.
    seed : int or None
        Of the order of the samples; default 0. None takes another one each time.

    Attributes
    ----------
    learning_rate, batch_size, accumulation, l1, l2, weight_decay, clip_norm, clip_value, input_dropout, input_noise
    regularise_biases, seed
        As above; they may be set between calls. Callbacks may set them, too, and what they set counts from the next
        epoch; but not batch_size, accumulation and seed, nor, with "lbfgs", what the function that is minimised depends
        on: then it is an AttributeError.
    history : History
        A record an epoch, over all calls of `fit`.
    steps, epochs : int
        Updates and epochs made so far.
    schedule_state : dict of str to float
        What the schedule has taken note of so far; only "reduce_on_plateau" does.
    stop_training : bool
        Set it in a callback to end `fit` after the current epoch.
    callbacks : list
        Those of the call of `fit` that is running; else empty.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, or not allowed. With "lbfgs", where what is minimised has to be smooth: l1,
        weight_decay, clipping, input_dropout, input_noise, augmentation, dropout and max_norm of layers; and schedules.
    ImportError
        With "lbfgs", if SciPy is missing.

    Warns
    -----
    UserWarning
        If layers will not learn whatever the data: those with or below "step" or "sign", and "softmax" of one unit.
    """

    def __init__(
        self,
        model: MLP,
        loss: str | Loss = "cross_entropy",
        optimizer: Any = "adam",
        learning_rate: float = 1e-3,
        schedule: str | Schedule | Callable[[int], float] | None = None,
        batch_size: int = 32,
        l2: float = 0.0,
        seed: int | None = 0,
        *,
        l1: float = 0.0,
        weight_decay: float | None = None,
        regularise_biases: bool = False,
        clip_norm: float = 0.0,
        clip_value: float = 0.0,
        input_dropout: float = 0.0,
        input_noise: float = 0.0,
        augmentation: Augmentation | None = None,
        accumulation: int = 1,
        metrics: Iterable[Any] | None = None,
    ) -> None:
        if not isinstance(model, MLP):
            raise TypeError(f"model must be an MLP, got {model!r}")
        self.model = model
        self.loss = check_loss(loss, model.output)
        self.optimizer = check_optimizer(optimizer)
        self.learning_rate = learning_rate
        self.schedule = check_schedule(schedule)
        self.schedule_state: dict[str, float] = {}
        self.batch_size = batch_size
        self.l1 = l1
        self.l2 = l2
        self.weight_decay = self.optimizer.weight_decay if weight_decay is None else weight_decay
        self.regularise_biases = regularise_biases
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.input_dropout = input_dropout
        self.input_noise = input_noise
        self.augmentation = _check_augmentation(augmentation, model.inputs)
        self.accumulation = accumulation
        self.metrics = check_metrics(metrics, model.output)
        self.seed = check_seed(seed)
        warn_of_flat_layers(model.layers)
        if isinstance(self.optimizer, LBFGS):
            lbfgs.require_scipy()
            lbfgs.check_settings(self)
        # For objectives that are not means, as scikit-learn's: a factor on the loss, and the strength of an L2 penalty
        # on the weights that stands beside the sum of a batch's losses.
        self._loss_scale = 1.0
        self._l2_of_sum = 0.0
        self.history = History()
        self.steps = 0
        self.epochs = 0
        self.stop_training = False
        # Of a call of `fit` that was not finished: what it began with, and what it left within an epoch.
        self.unfinished: dict[str, Any] | None = None
        self.callbacks: list[Any] = []
        self.callback_states: list[dict[str, Any]] = []  # of that call
        self._state = self._new_state()
        self._calls = TrainingCalls(self)
        self._by_hand = StepByHand(self)
        self._choice: ThreadChoice | None = None
        self._running: Fit | lbfgs.Minimisation | None = None
        self._lock = threading.Lock()
        self._user: int | None = None  # the thread that has the lock

    def __setattr__(self, name: str, value: Any) -> None:
        # Settings may be changed between calls, and by callbacks; what memory was laid out for may not.
        if name in SETTING_CHECKS:
            self._set(name, value)
            return
        if name in FIXED and name in self.__dict__:
            raise AttributeError(f"the {name} of a trainer cannot be changed; make another Trainer")
        if name in COUNTS and not (type(value) is int and 0 <= value <= MOST_STEPS):  # which is quick in every slice
            value = check_integer(name, value, low=0, high=MOST_STEPS)
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return (f"Trainer({self.model!r}, loss={self.loss.name!r}, optimizer={self.optimizer!r}, "
                f"learning_rate={self.learning_rate:g}, batch_size={self.batch_size}, epochs={self.epochs})")

    def _set(self, name: str, value: Any) -> None:
        """Check and set a setting, and tell the call of `fit` that is running, if it may be changed then."""
        running = self.__dict__.get("_running")
        if running is not None and name in running.fixed_settings:
            raise AttributeError(f"{name} cannot be changed while fit runs; set it between calls")
        object.__setattr__(self, name, SETTING_CHECKS[name](value))
        if running is not None:
            running.settings_changed = True

    def _new_state(self) -> NDArray[Any]:
        network = self.model.network
        return layout.aligned_zeros(self.optimizer.slots * len(network.parameters), network.dtype)

    # ---- training

    def fit(
        self,
        X: Any,
        y: Any = None,
        epochs: int = 10,
        validation_data: tuple[Any, Any] | tuple[Any, Any, Any] | None = None,
        validation_split: float = 0.0,
        callbacks: Iterable[Any] | None = None,
        progress: bool = True,
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: Any = None,
        resume: bool = False,
        window: int | None = None,
        steps_per_epoch: int | None = None,
    ) -> History:
        """Train for a number of epochs; called again, training goes on from where it stood.

        Parameters
        ----------
        X : array of shape (n, inputs)
            float32, float64 and uint8 are read where they lie, without a copy; other real dtypes are converted once.
        y : array
            For cross entropy integer labels (n,), or probabilities (n, outputs); for the other losses real numbers
            (n, outputs), or (n,) for one output: from 0 to 1 for binary cross entropy, -1 or 1 for hinge. None where X
            gives the targets, see below.
        epochs : int
            Passes over the data, from 1 to 2**63 - 1; default 10.
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            Evaluated after every epoch, as val_loss, val_accuracy and so on.
        validation_split : float
            Share of the rows to validate on instead, from 0 (default) to below 1; the last rows are taken.
        callbacks : iterable, optional
            Objects with any of the methods of `fastmlp.callbacks.Callback`, or functions ``f(trainer, logs)`` that are
            called after every epoch.
        progress : bool
            Whether to show a progress bar; default True.
        shuffle : bool
            Whether to draw a new order of the rows for every epoch; default True.
        sample_weight : array of shape (n,), optional
            Finite numbers of at least 0. The loss of a batch is the mean weighted by them: the sum of w times the
            row's loss, over the sum of w.
        class_weight : dict or "balanced", optional
            Weight of each class, for cross entropy and binary cross entropy with one output; classes that are not in
            the dict have 1. "balanced" takes n / (classes * rows of the class). It multiplies `sample_weight` in
            training, and does not apply to validation.
        resume : bool
            Whether to go on with a call of `fit` that did not come to its end, if there is one, be it on a trainer from
            `load` or after an error or Ctrl-C: with the same data and arguments, training ends with the bits it would
            have had without the interruption. It goes on from the step after the last; iterables are read from the
            beginning of that epoch. What callbacks did to the weights at the end of training, as `EarlyStopping` does,
            is undone. Default False.
        window : int, optional
            Rows that are read and shuffled together, at least a batch; see below. By default as many as make 64 MB.
        steps_per_epoch : int, optional
            Updates of an epoch, for data that is read in windows; the rest of it is not used. Needed for an iterable
            that has no end, or with a schedule that goes by epochs.

        Returns
        -------
        History
            The trainer's `history`, with a record for each epoch: epoch, loss (the mean over the epoch's batches, each
            taken before its update), learning_rate (of the last step), samples_per_second, the trainer's metrics, and
            val_loss, val_accuracy and so on if there is validation data. With "lbfgs" an epoch is an iteration: loss is
            that of the weights after it, there is no learning_rate, and the last record of a call has a message: why
            it ended. Where the first weights need no iteration there is no record.

        Raises
        ------
        TypeError, ValueError
            If an argument is not of its kind, or not allowed; then nothing is changed. NaN or infinity in an X of
            more than 8 MB is found in the first epoch, which is then undone.
        KeyboardInterrupt
            On Ctrl-C, within a step or a tenth of a second, with the model and the trainer fit for use; an iterable
            that is being waited for is left to a thread that ends when it gives something. With "lbfgs"
            when the loss of the set has been computed, with the weights of the last iteration.

        Warns
        -----
        DivergenceWarning
            If the loss is infinite or NaN; training then stops. The record of an epoch that did not come to its end has
            that loss, and neither metrics nor values of the validation data.
        UserWarning
            If a loss for numbers has targets outside of what the output activation can give.

        Notes
        -----
        Sets larger than memory are read in windows of rows. While one is trained on, a thread reads the next, so two
        are in memory. In place of arrays, X may be

        - a `numpy.memmap` of more than 64 MB, with y beside it; with `window` any array that can be sliced, as those of
          h5py and zarr. It is read in blocks of consecutive rows, 32 to a window, in an order drawn for every epoch.
          ``numpy.asarray(X)`` is trained on as an array.
        - an iterable of chunks (X, y) or (X, y, sample_weight), which is iterated for every epoch, or a function that
          returns one, such as a generator function. An iterator itself is used up by one epoch. All epochs must have
          the same number of batches.
        - a data set with ``len(X)``, whose items ``X[i]`` are rows (x, y) or (x, y, sample_weight), as PyTorch has
          them. The order of the items is drawn for every epoch.

        Then the rows of a window are shuffled, and what they leave of a batch is filled with the rows of the next
        window. Order and result depend on the seed alone; without `shuffle` they are those of the same rows in arrays.
        Rows are checked when they are read, and errors tell the chunk; the model is then as the last step left it. An
        exception of the iterable or the data set ends training and is raised as it is. The metrics are computed on
        the validation data only; `validation_split` and balanced class weights are for arrays.
        """
        arguments = check_fit_arguments(self, X, y, epochs, validation_data, validation_split, callbacks, progress,
                                        shuffle, sample_weight, class_weight, resume, window, steps_per_epoch)
        with self._exclusively():
            arguments.begin(self).run()
        return self.history

    def step(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Make one update on one batch, for loops of one's own.

        Parameters
        ----------
        X, y : arrays
            The batch, as in `fit`; any number of rows.
        sample_weight : array of shape (n,), optional
            As in `fit`.

        Returns
        -------
        float
            The batch's mean loss before the update.

        Raises
        ------
        TypeError, ValueError
            As `fit`; ValueError with a schedule that goes by epochs, and with the optimizer "lbfgs".
        """
        rates = self._rates_of_step()
        source, targets = self._check_data(X, y, sample_weight)
        network = self.model.network
        with self._exclusively():
            call = self._calls.for_step(source.rows)
            call.set_inputs(source)
            call.set_targets(targets)
            call.context[layout.UPDATES_BEFORE] = self.steps
            call.set_steps(0, rates)
            call.context[layout.NOT_FINITE] = 0
            try:
                call.train(engine.threads_for_call(source.rows * network.training_work))
            finally:
                self.steps += int(call.context[layout.STEPS_DONE])
                call.forget_data()
            return float(call.kept(layout.LOSSES)[0])

    def evaluate(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """Return the mean loss and, for classification, the accuracy.

        Parameters
        ----------
        X, y : arrays
            As in `fit`.
        sample_weight : array of shape (n,), optional
            As in `fit`; it weights the loss.

        Returns
        -------
        dict
            "loss", and with cross entropy "accuracy": the share of rows whose most probable class is right; with
            binary cross entropy, the share of outputs on the right side of one half; and the trainer's metrics.

        Raises
        ------
        TypeError, ValueError
            As `fit`.
        """
        return self._evaluate(*self._check_data(X, y, sample_weight))

    def _evaluate(self, source: Source, targets: Targets) -> dict[str, float]:
        loss, accuracy = engine.evaluate(self.model.network, source, targets)
        results = {"loss": loss, "accuracy": accuracy} if self.loss.counts_hits else {"loss": loss}
        return results | (self._metrics(source, targets) if self.metrics else {})

    def _metrics(self, source: Source, targets: Targets) -> dict[str, float]:
        outputs = engine.predict(self.model.network, source.array)
        return {metric.name: metric(targets.source.array, outputs) for metric in self.metrics}

    # ---- a step in its parts

    def zero_gradients(self) -> None:
        """Forget the gradients that `backward` has summed up."""
        with self._exclusively():
            self._by_hand.gradients = None

    def forward(self, X: Any) -> NDArray[Any]:
        """Return the network's outputs for a batch, and take note of the batch for `compute_loss` and `backward`.

        Parameters
        ----------
        X : array of shape (n, inputs)

        Returns
        -------
        array of shape (n, outputs)
            As `MLP.forward`: nothing is dropped and no noise is added. Where the network has dropout, `backward` goes
            forward once more with it.

        Raises
        ------
        TypeError, ValueError
            As `fit`.
        """
        with self._exclusively():
            return self._by_hand.forward(X)

    def compute_loss(self, y: Any, sample_weight: Any = None) -> float:
        """Return the mean loss of the outputs that `forward` gave, and take note of the targets for `backward`.

        So it is the loss without dropout and noise; `step` returns that with them.

        Parameters
        ----------
        y, sample_weight : arrays
            As in `fit`.

        Raises
        ------
        TypeError, ValueError
            As `fit`; ValueError without `forward` before it.
        """
        with self._exclusively():
            return self._by_hand.compute_loss(y, sample_weight)

    def backward(self) -> None:
        """Add the gradient of the loss by all parameters to the gradients so far.

        Raises
        ------
        ValueError
            Without `compute_loss` before it.
        """
        with self._exclusively():
            self._by_hand.backward()

    def get_gradients(self) -> list[NDArray[Any]]:
        """Return the gradients that `backward` has summed up, with the shapes of `MLP.get_weights`.

        Raises
        ------
        ValueError
            Without `backward` before it.
        """
        if self._by_hand.gradients is None:
            raise ValueError("get_gradients needs gradients: call backward() before it")
        return layout.unpack(self.model.network.table, self._by_hand.gradients)

    def update(self) -> None:
        """Update the parameters by the gradients, as one step of the optimizer; they stay until `zero_gradients`.

        Raises
        ------
        ValueError
            Without `backward` before it, with a schedule that goes by epochs, or with the optimizer "lbfgs".
        """
        with self._exclusively():
            self._by_hand.update(self._rates_of_step())

    # ---- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint: the model and all the state of its training, in one safetensors file, all or nothing.

        It may be called between calls of `fit`, and from callbacks (see `fastmlp.callbacks.Checkpoint`). The file then
        holds the states of the callbacks, too. `MLP.load` reads the model from it.

        Parameters
        ----------
        path : str or os.PathLike
            A file of that name is replaced.

        Raises
        ------
        TypeError, ValueError
            If `path` is not a path; if the name of the loss was registered anew, or a value of the history or of a
            callback's state is nothing that a file can hold. A schedule or a metric that is a function is left out:
            `load` asks for it.
        OSError
            If the file cannot be written.
        RuntimeError
            If the trainer is in use in another thread.
        """
        with self._exclusively(but_for_callbacks=True):
            save_trainer(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], schedule: Any = None, metrics: Iterable[Any] | None = None) -> Trainer:
        """Read a trainer from a checkpoint; training goes on from it as if there had been no break.

        If it was saved within a call of `fit`, ``fit(..., resume=True)`` with the same data and arguments goes on with
        that call.

        Parameters
        ----------
        path : str or os.PathLike
            A file that `save` wrote. Activations and losses of one's own must be registered by their names before.
        schedule : Schedule or callable, optional
            The trainer's schedule, if it is a function or a class of one's own (or a `WarmUp` to one of these): a file
            cannot hold it. Not allowed else.
        metrics : list, optional
            The trainer's metrics, as it was made with, if there are functions among them: a file holds their names
            only.

        Raises
        ------
        ModelFileError
            If the file is damaged or not a checkpoint of fastmlp; a ValueError.
        TypeError, ValueError
            If `schedule` or `metrics` are not those that the checkpoint asks for.
        OSError
            If the file cannot be read.
        """
        return load_trainer(cls, path, schedule, metrics)

    # ---- helpers

    def _rates_of_step(self) -> NDArray[np.float64]:
        """Return the learning rate of a single step, (1,)."""
        if isinstance(self.optimizer, LBFGS):
            raise ValueError(f"optimizer must be one that makes single steps, got {self.optimizer!r}; use fit")
        if self.schedule.needs_horizon:
            raise ValueError("schedule must be None, or one that does not go by epochs, for a single step, got "
                             f"{self.schedule!r}; use fit, or set learning_rate between steps")
        return step_rates(self.schedule, self.learning_rate, FIRST_STEP, Span(0, 0, self.steps, 0, self.schedule_state))

    def _check_data(self, X: Any, y: Any, sample_weight: Any = None) -> tuple[Source, Targets]:
        model = self.model
        source = check_inputs(X, model.inputs, model.dtype)
        return source, self.loss.check_targets(y, source.rows, model.outputs, model.dtype, sample_weight)

    @contextlib.contextmanager
    def _exclusively(self, but_for_callbacks: bool = False) -> Iterator[None]:
        """Guard against use from two threads, or from one of the trainer's own callbacks (unless allowed), at once."""
        if but_for_callbacks and self._user == threading.get_ident():
            yield
            return
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("this trainer is training already, in another thread or around this callback")
        self._user = threading.get_ident()
        try:
            yield
        finally:
            self._user = None
            self._lock.release()

    def _settings(self) -> dict[str, Any]:
        """Return the arguments that are numbers and flags, by name."""
        return {name: getattr(self, name) for name in SETTING_CHECKS}

    # The optimizer's state lies in memory as the parameters do, which depends on the processor; what is pickled, copied
    # or saved is free of that.

    def _unpacked_state(self) -> list[list[NDArray[Any]]]:
        """Return copies of the optimizer's state vectors, each in the order and shapes of `MLP.get_weights`."""
        size, table = len(self.model.network.parameters), self.model.network.table
        return [layout.unpack(table, self._state[i * size :]) for i in range(self.optimizer.slots)]

    def _pack_state(self, slots: list[list[NDArray[Any]]]) -> None:
        """Set the optimizer's state from what `_unpacked_state` returned."""
        self._state = self._new_state()
        size, table = len(self.model.network.parameters), self.model.network.table
        for i, arrays in enumerate(slots):
            layout.pack(table, self._state[i * size :], arrays)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_choice": None, "_running": None, "_user": None, "callbacks": []}
        del state["_lock"], state["_calls"], state["_by_hand"]
        state["_state"] = self._unpacked_state()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._calls = TrainingCalls(self)
        self._by_hand = StepByHand(self)
        self._pack_state(state["_state"])

    def _thread_choice(self, rows: int) -> ThreadChoice:
        """Return what earlier calls of `fit` have learned about the number of threads, or a new start."""
        network = self.model.network
        work = rows * network.training_work
        many = engine.threads_for(work)
        if self._choice is None or not self._choice.suits(work, many):
            self._choice = ThreadChoice(network.dtype, work, many)
        return self._choice


def _check_augmentation(augmentation: Any, inputs: int) -> Augmentation | None:
    if augmentation is None:
        return None
    if not isinstance(augmentation, Augmentation):
        raise TypeError(f"augmentation must be an Augmentation or None, got {augmentation!r}")
    if augmentation.inputs != inputs:
        raise ValueError(f"augmentation must be of images with as many pixels as the model has inputs, {inputs}, got "
                         f"the shape {augmentation.shape}")
    return augmentation
