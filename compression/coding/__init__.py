"""Entropy coders for the integers of a compressed network: NumPy alone, no torch. `coder.py` is the way in."""
