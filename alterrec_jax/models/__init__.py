"""The systems, one file a family; with `nn`, the only rooms that import flax.linen. See `registry`."""
