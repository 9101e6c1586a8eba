"""Session-based recommendation in JAX: AlterRec and other systems on one contract, one protocol, one trainer."""

__version__ = "0.1.0"
