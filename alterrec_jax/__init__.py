"""AlterRec in JAX: ID and text networks trained alternately for session-based recommendation."""
