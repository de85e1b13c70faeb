"""Decisions: sans-IO state machines. See ``machine.py`` for the contract they all keep."""
