"""The only printers: text, JSON."""
