"""Which pairs of NATs end direct, how fast, and at what cost: in the lab, and in the simulator.

    sudo .venv/bin/python -m benchmarks.matrix [--lab | --simulator] [--quick] [--pairs A:B ...]
        [--repeat N] [--give-up SECONDS] [--jobs J] [--json FILE]

::

      a ── its NAT ──┐                 ┌── its NAT ── b
                     ├─── internet ────┤
                     └────── vps ──────┘     the rendezvous server

Every unordered pair of the kinds in `kinds.py`, and some that share a router. Both nodes are
members of one network and start at the same moment, as after a power cut, with nothing remembered
of each other. It is noted whether both call the path direct within `--give-up` seconds, how long it
took from their start, what they sent to others than the server, and the most entries a router of
either side held. `tests/sim/theory.py` says what is possible.

Without `--lab` or `--simulator` both are run. The lab needs root; the simulator is the real core in
virtual time, on links of 10 ms.
"""
