"""Run by `process` in a fresh interpreter between fork and exec: limits, then the program itself.

``preexec_fn`` is unsafe in a threaded parent, so this small file is executed instead (isolated,
no site-packages) and replaces itself with the program.  Arguments: the parent's process id, the
limits as ``NAME=VALUE`` joined with commas, the descriptor of a Landlock ruleset or -1, then the
program's argv.
"""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_LANDLOCK_RESTRICT_SELF = 446


def main() -> None:
    """Bind our life to the parent's, set the limits, become the program."""
    parent, limits, ruleset, *argv = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before the line above took effect
        os._exit(1)
    for limit in filter(None, limits.split(",")):
        name, _, value = limit.partition("=")
        which = getattr(resource, f"RLIMIT_{name}")
        _, most = resource.getrlimit(which)
        bound = int(value) if most == resource.RLIM_INFINITY else min(int(value), most)
        resource.setrlimit(which, (bound, bound))
    if int(ruleset) >= 0:
        confined = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 and (
            libc.syscall(ctypes.c_long(_LANDLOCK_RESTRICT_SELF), ctypes.c_long(int(ruleset)), 0)
            == 0
        )
        if not confined:
            sys.stderr.write(f"cannot confine {argv[0]}\n")
            os._exit(127)
        os.close(int(ruleset))
    # An interpreter ignores both signals.  The program expects SIGPIPE to be as usual; SIGXFSZ
    # stays ignored, so that the limit on file size is an error it can report, not its death.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execv(argv[0], argv)  # noqa: S606 - this is the point of the file
    except OSError as error:
        sys.stderr.write(f"cannot start {argv[0]}: {error.strerror}\n")
        os._exit(127)


if __name__ == "__main__":
    main()
