"""The Numba kernels: arrays in, arrays out; no class, no model, no parsing of options.

simd            vectors, pointers and the table of instruction sets
denormals       flushed to zero while kernels run
lockstep        several vectors at once, for formulas that are long
estimates       division and square root by the processor's estimates
elementary      exp, log, tanh ... on whole registers
tile            the micro-kernel: one register tile of a matrix product
panels          matrices in column panels
transposes      transposing in registers
dense           the three products of a dense layer, with what follows them fused in
activations  losses  updates  batches  random
special         learned slopes, users' functions, dropout, maxout: what only some layers do
noise           dropout and Gaussian noise, drawn by a hash of key and position
augmentation    images shifted, rotated, scaled, sheared and distorted as a batch is made
deferred        updates that wait for the whole gradient; limits of norms
read_ahead      the rows of the next batch, asked for while tiles are computed
passes          forward and backward through all layers, as a team of threads
perceptron      Rosenblatt's learning rule
epoch           training, prediction and evaluation as compiled programs
team            threads that meet at barriers
threading_layer  who may enter a parallel region
layout          how a network lies in memory
linking         kernels as separately compiled functions
compilation     those that are missing in the cache on disk, compiled by several processes
standalone      the kernels one by one, on NumPy arrays
products        the three products for it, on several threads
array_tile      their micro-kernel, which reads arrays where they lie
"""

from numba import config

if config.DISABLE_JIT:
    raise ImportError("fastmlp cannot be imported with NUMBA_DISABLE_JIT=1: its kernels run as compiled programs only. "
                      "Unset NUMBA_DISABLE_JIT")
