"""Protobuf messages of the files we read, under package names of our own (README.md says how to generate them)."""
