"""llama.cpp's CPU kernels beside ours, in one run: ``python -m bench.peers --help``."""
