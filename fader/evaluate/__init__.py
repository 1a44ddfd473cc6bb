"""How good a model is: swaps, side effects, reconstruction, leakage, identity, and the report."""
