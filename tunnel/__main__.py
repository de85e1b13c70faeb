"""``python -m tunnel``: the same as ``punchtun``."""

from tunnel.cli import main

main()
