"""Order, statistics and machine: what the benchmarks and ``deltamoe track`` share."""
