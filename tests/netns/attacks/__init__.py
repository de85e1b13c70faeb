"""Attackers, as programs against the real server and real nodes, in the laboratory's namespaces.

`strangers`, `on_path`, `members`, `lies`, `streams` and `floods` each build a small world, let an
attacker loose in it, and return what came of it, a `Result` an attack. `test_attacks.py` runs them,
and with larger numbers `benchmarks/attacks.py`.
"""
