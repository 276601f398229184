"""Choosing a strategy by evidence: out-of-fold predictions of every candidate on the same folds."""
