"""Measurements anyone can repeat: ``python -m benchmarks.NAME`` as root, in its own namespaces."""
