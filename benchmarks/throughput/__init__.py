"""What a tunnel carries, how fast it answers and what it costs, beside others in the same run.

    sudo .venv/bin/python -m benchmarks.throughput [--contender C ...] [--binary NAME=PATH ...]
        [--link L ...] [--measure M ...] [--repetitions N] [--seconds S] [--against C]
        [--json FILE] [--plot FILE.svg]

::

      left ════════ cable ════════ right      one veth pair; no NAT, no router
        └──── internet ── vps ──────┘         only what the contenders' servers need

Each contender has a laboratory of its own, and all of them are up all the time. They are measured
by turns: in every repetition each measure of one contender is followed by the same measure of the
next. The ceiling is `plain`: the cable without any tunnel.
"""
