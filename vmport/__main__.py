"""``python -m vmport``, and the ``vmport`` script."""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line and run it."""
    # Until somebody is there to clean up, ^C may end us as it ends any program: no traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from vmport.cli import main as run_command_line

    run_command_line()


if __name__ == "__main__":
    main()
