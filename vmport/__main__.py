"""``python -m vmport``."""

from vmport.cli import main

main()
