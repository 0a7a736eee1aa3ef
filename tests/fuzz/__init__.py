"""Damages small images of every format, the same way on each run, and reads what is left.

``python -m tests.fuzz --help`` tells how to run it.  A case is known by a seed, a family of formats
and a number; nothing else goes into it.
"""
