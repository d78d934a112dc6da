"""What our kernels and stock MLX's cost: ``python -m deltamoe.bench --help``."""
