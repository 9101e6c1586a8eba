"""The networks. The only package that imports flax.linen; everything else sees init and apply functions."""
