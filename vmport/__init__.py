"""Storey 3, the face: what a person types and sees."""
