"""Layers taken apart into cheaper ones."""
