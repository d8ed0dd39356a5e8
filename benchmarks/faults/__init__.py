"""Faults injected for real, and what became of each: python -m benchmarks.faults"""
