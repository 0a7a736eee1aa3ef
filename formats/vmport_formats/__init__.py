"""Storey 1, knowing: bytes and text to models and back.

No process, no network; it opens no file that it was not handed.
"""
