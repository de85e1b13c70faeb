"""Tests on real kernel NATs in network namespaces; `lab` builds them. Needs root."""
