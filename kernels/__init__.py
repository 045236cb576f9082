"""The Numba kernels: arrays in, arrays out; no class, no model, no parsing of options.

simd            vectors, pointers and the table of instruction sets
estimates       division and square root by the processor's estimates
elementary      exp, log, tanh ... on whole registers
tile            the micro-kernel: one register tile of a matrix product
panels          matrices in column panels
transposes      transposing in registers
dense           the three products of a dense layer, with what follows them fused in
activations  losses  updates  batches  random
epoch           training, prediction and evaluation as compiled programs
team            threads that meet at barriers
threading_layer  who may enter a parallel region
layout          how a network lies in memory
linking         kernels as separately compiled functions
standalone      the kernels one by one, on NumPy arrays
products        the three products for it, on several threads
"""
