"""Synthetic talking heads, for tests and the demonstration."""
