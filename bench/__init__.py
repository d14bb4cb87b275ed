"""Benchmarks: `make bench`, or `python -m bench SECTION…`; each section measures one promise of docs/scale.md."""
