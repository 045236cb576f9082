"""Kernels as separately compiled functions, called through a table of addresses.

Numba optimises a function together with everything it calls, once again at every level of calls: the unrolled
kernels inside the training loop would be compiled ten times over, and again for every entry point. So a kernel is
compiled by itself, once for each dtype, with its own entry in the cache on disk; programs call it through `kernels`,
a pointer to the table of addresses. The call costs about a nanosecond.

    @kernel(INT, DOUBLE, NUMBERS, INT)          # the types of the arguments
    def scale(code, factor, block, count): ...  # compiled with NUMBERS a pointer to float32, and to float64

    scale(kernels, code, factor, block, count)  # in a compiled program; kernels points to kernel_table(dtype)

A kernel that calls other kernels has `kernels` as its first parameter, of no type in the decorator.

`kernel_table` loads all kernels but those marked ``on_demand=True``, which serve what not every user does: these are
named in the call that is the first to need them. (Compiling takes seconds where there is no cache.)
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.imputils import lower_builtin
from numba.core.runtime import rtsys
from numba.core.typing.templates import AbstractTemplate, signature
from numba.extending import intrinsic

from .layout import address_of

INT = types.int64
DOUBLE = types.float64
INT_POINTER = types.CPointer(types.int64)
DOUBLE_POINTER = types.CPointer(types.float64)
NUMBERS = types.Dummy("pointer to the numbers of the network")

# A function that only kernels and programs call. It becomes part of them, and is spared the wrappers through which
# Python would call it: they take an eighth of the time of compilation. (Calling it from Python ends the process.)
inlined = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)

# LLVM leaves a long one a call of its own, 20 to 30 cycles with the registers it saves. These are called for every
# row or register full of rows.
inlined_always = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)

FLOATS = {np.dtype(np.float32): types.float32, np.dtype(np.float64): types.float64}


@functools.cache
def sources_stamp() -> str:
    """Return a digest of all source files of the kernels."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Cache(FunctionCache):
    """Numba's cache of one function, made anew when any of the kernels' source files changes.

    By itself Numba looks at the file a function is in, but not at the files of what it calls.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = sources_stamp()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load a compiled function, ready to be called.

        Numba's own method gets everything ready for compiling first, which takes half a second and 40 MB: all it knows
        of Python and NumPy is imported, SciPy's linear algebra too. What is loaded needs Numba's runtime library only.
        """
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def cache_on_disk(compiled: Any) -> Any:
    """Turn on the cache on disk for a function.

    Where neither the package's folder nor the user's can be written, there is no cache, and the function is compiled
    in each process.
    """
    with contextlib.suppress(RuntimeError):  # Numba found no place for it
        compiled._cache = _Cache(compiled.__wrapped__)
    return compiled


def address_in(compiled: Any) -> int:
    """Return the address of what `Kernel.compiled` returned.

    It is that of the function itself, not of the one that Numba wraps around it for callers in C: copying the arguments
    once more, in each call, would take a tenth of the time of a small network's step.
    """
    return int(compiled._library.get_pointer_to_function(compiled._wrapper_name.removeprefix("cfunc.")))


# Numba's functions have two parameters more, where the result and the exception go; kernels have neither, so that all
# threads may share one place.
NOWHERE = ctypes.byref(ctypes.c_void_p())


class Kernel:
    """A function that is compiled once for each dtype and called through the table of addresses."""

    def __init__(self, function: Callable[..., None], arguments: tuple[types.Type, ...], on_demand: bool) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.on_demand = on_demand
        # A kernel whose first parameter is called `kernels` calls others, and is handed the table it came through.
        self.calls_others = next(iter(inspect.signature(function).parameters)) == "kernels"
        self.arguments = (INT_POINTER, *arguments) if self.calls_others else arguments
        self.slot = len(KERNELS)
        if self.slot == MOST_KERNELS:
            raise RuntimeError("no room for another kernel: raise MOST_KERNELS")
        self._c_functions: dict[int, Any] = {}  # by the identity of the table, each of which there is for ever
        KERNELS.append(self)
        # How compiled code sees this object: as a function that is typed and lowered by these two.
        self._numba_type_ = types.Function(_template_of(self))
        lower_builtin(self, types.VarArg(types.Any))(self._lower)

    def typed_arguments(self, dtype: types.Float) -> list[types.Type]:
        return [types.CPointer(dtype) if kind is NUMBERS else kind for kind in self.arguments]

    def __call__(self, kernels: np.ndarray, *arguments: Any) -> None:
        """Call the kernel from Python: `kernels` from `kernel_table`, arrays of its dtype in the place of pointers.

        The arrays are trusted to be as large as the kernel takes them to be; the functions of `standalone` check.
        """
        if self.calls_others:
            arguments = (kernels, *arguments)
        values = [address_of(value) if isinstance(value, np.ndarray) else value for value in arguments]
        function = self._c_functions.get(id(kernels)) or self._c_function(kernels)
        function(NOWHERE, NOWHERE, *values)

    def _c_function(self, kernels: np.ndarray) -> Any:
        if kernels[self.slot] == 0:  # it may call any other
            dtype = next(dtype for dtype, table in _tables.items() if table is kernels)
            kernel_table(dtype, *(KERNELS if self.calls_others else [self]))
        kinds = [ctypes.c_double if kind is DOUBLE else ctypes.c_int64 if kind is INT else ctypes.c_void_p
                 for kind in self.arguments]
        function = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 2, *kinds)(int(kernels[self.slot]))
        self._c_functions[id(kernels)] = function
        return function

    def _lower(self, context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
        kernels, *arguments = values
        if self.calls_others:
            arguments = list(values)
        address = builder.load(builder.gep(kernels, [ir.IntType(64)(self.slot)]))
        nowhere = cgutils.alloca_once(builder, ir.IntType(64))
        arguments = [nowhere, nowhere, *arguments]
        function_type = ir.FunctionType(ir.IntType(32), [value.type for value in arguments])
        builder.call(builder.inttoptr(address, function_type.as_pointer()), arguments)
        return context.get_dummy_value()

    def compiled(self, dtype: types.Float, *, cached: bool = True) -> Any:
        """Return the kernel as Numba's object, compiled or, if `cached`, loaded from the cache on disk."""
        compiled = self._c_callback(dtype, cached)
        compiled.compile()
        return compiled

    def is_missing(self, dtype: types.Float) -> bool:
        """Whether there is a cache on disk that does not hold the kernel."""
        compiled = self._c_callback(dtype, cached=True)
        cache = compiled._cache
        if cache.cache_path is None:
            return False
        return cache._index_key(compiled._sig, compiled._targetdescr.target_context.codegen()) not in (
            cache._cache_file._load_index())

    def _c_callback(self, dtype: types.Float, cached: bool) -> Any:
        sig = types.void(*self.typed_arguments(dtype))
        callback = CFunc(self.function, (sig.args, sig.return_type), locals={}, options={})
        return cache_on_disk(callback) if cached else callback

    def address(self, dtype: types.Float) -> int:
        """Compile the kernel, or load it from the cache, and return its address."""
        return address_in(self.compiled(dtype))


@intrinsic
def call_activation(typing_context: Any, address: Any, block: Any, kept: Any, count: Any, keeps: Any) -> Any:
    """Call the function at an address with these arguments (`fastmlp.custom.activation_function`)."""
    return types.void(types.int64, block, kept, types.int64, types.int64), _generate_call


@intrinsic
def call_loss(typing_context: Any, address: Any, outputs: Any, targets: Any, values: Any, derivatives: Any,
              count: Any) -> Any:
    """Call the function at an address with these arguments (`fastmlp.custom.loss_function`)."""
    return types.void(types.int64, outputs, targets, values, derivatives, types.int64), _generate_call


def _generate_call(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
    address, *arguments = values
    function_type = ir.FunctionType(ir.VoidType(), [value.type for value in arguments])
    builder.call(builder.inttoptr(address, function_type.as_pointer()), arguments)
    return context.get_dummy_value()


KERNELS: list[Kernel] = []
MOST_KERNELS = 64  # a table stays where it is when a module with further kernels is imported


def _template_of(entry: Kernel) -> type[AbstractTemplate]:
    class Template(AbstractTemplate):
        key = entry

        def generic(self, args: Any, kws: Any) -> Any:
            given = args if entry.calls_others else args[1:]
            if len(given) != len(entry.arguments):
                return None
            dtypes = [arg.dtype for arg, kind in zip(given, entry.arguments, strict=True) if kind is NUMBERS]
            typed = entry.typed_arguments(dtypes[0])
            return signature(types.void, *(typed if entry.calls_others else [INT_POINTER, *typed]))

    return Template


def kernel(*arguments: types.Type, on_demand: bool = False) -> Callable[[Callable[..., None]], Kernel]:
    """Make a function a kernel; see the top of this file."""
    return lambda function: Kernel(function, arguments, on_demand)


_tables: dict[np.dtype[Any], np.ndarray] = {}


def kernel_table(dtype: np.dtype[Any], *needed: Kernel, meanwhile: Callable[[], object] = lambda: None) -> np.ndarray:
    """Return the addresses of all kernels for float32 or float64, compiled or loaded from the cache.

    Kernels on demand have address 0 until they were `needed`; it is always the same array. If other processes have to
    help with compiling, `meanwhile` is called while they start.
    """
    dtype = np.dtype(dtype)
    table = _tables.get(dtype)
    if table is None or any(table[entry.slot] == 0 for entry in needed):
        with global_compiler_lock:  # several threads may be the first to need it
            table = _load(dtype, needed, meanwhile)
    return table


def _load(dtype: np.dtype[Any], needed: Sequence[Kernel], meanwhile: Callable[[], object]) -> np.ndarray:
    """Compile or load what is not in the table of a dtype yet."""
    from .compilation import compile_missing  # which needs this module

    kind = FLOATS[dtype]
    if dtype not in _tables:
        always = [entry for entry in KERNELS if not entry.on_demand]
        compile_missing([*always, *needed], kind, meanwhile)
        table = np.zeros(MOST_KERNELS, np.int64)
        for entry in always:
            table[entry.slot] = entry.address(kind)
        _tables[dtype] = table
    table = _tables[dtype]
    for entry in needed:
        if table[entry.slot] == 0:
            table[entry.slot] = entry.address(kind)
    return table
