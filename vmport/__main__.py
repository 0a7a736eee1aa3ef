"""``python -m vmport``, and the ``vmport`` script."""

import gc
import signal
from typing import Final, NoReturn

_SELDOM: Final = 100_000
"""Objects after which cycles among them are looked for: few are ever made, none at start-up."""


def main() -> NoReturn:
    """Load the command line and run it."""
    # Until somebody is there to clean up, ^C may end us as it ends any program: no traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.set_threshold(_SELDOM)
    from vmport.cli import main as run_command_line

    try:
        run_command_line()
    finally:
        gc.freeze()  # the end of the process frees all; to look through it first takes 9 ms


if __name__ == "__main__":
    main()
