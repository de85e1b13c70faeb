"""How long a tunnel is blind after something happened to its path.

    sudo .venv/bin/python -m benchmarks.outage [--scenario S ...] [--contender C ...]
        [--repetitions N] [--jobs J] [--json FILE]

::

      left ── home router ──┐              ┌── home router ── right
                            ├── internet ──┤
      another router ───────┘              └── vps: the contender's server

Both routers are plain Linux NATs: endpoint-independent mapping, address-and-port-dependent
filtering. Links have no delay. Through the tunnel both sides send 100 packets a second of 64 bytes
to each other, with sequence numbers. After 3 s something happens (`disturbances.py`); what arrives
is evaluated (`figures.py`) until the contender's `patience` has passed.
"""
