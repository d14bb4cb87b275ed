"""Oracles of the simulation's own: what must hold, judged by facts of the world and numbers of the documentation.

They import nothing of the program; `tests/contract/test_oracles.py` holds that.
"""
