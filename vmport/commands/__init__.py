"""A module a command: parse arguments, call storey 2, hand the result to render."""
