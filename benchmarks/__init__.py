"""Side-by-side measurements against TensorBoard's loaders: `python -m benchmarks`."""
