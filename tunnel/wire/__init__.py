"""Bytes ↔ messages. Each module's docstring is its packet format; numbers are little-endian as in
WireGuard unless a field is borrowed from an RFC. Parsers raise ``Malformed`` and nothing else."""
