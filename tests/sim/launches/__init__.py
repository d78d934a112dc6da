"""MLX's own Metal kernels, a module per family: how each is instantiated and launched, and float64 of its results.

A kernel is a function, named as MLX names it, that takes a generator, a dtype and a shape and returns a `Launch`,
following MLX's host code (mlx/backend/metal/*.cpp).
"""
