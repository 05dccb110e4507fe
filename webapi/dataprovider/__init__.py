"""TensorBoard's data provider over the database: its own pages show our runs, over gRPC. See docs/tensorboard.md."""
