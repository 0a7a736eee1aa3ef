"""The command line: wiring, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from vmport import __version__, stopping
from vmport.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

WRONG_USAGE = 2
INTERRUPTED = 130

# What Typer's parser raises; its class lives in click or inside Typer, by version.
WrongUsage: type[Exception] = typer.BadParameter.__mro__[2]

_COMMANDS: Final = ("inspect", "convert", "compare", "check", "translate", "validate", "export")
"""In the order of the help; each is a module, whose ``register`` adds the command to an app."""
_BEFORE_A_COMMAND: Final = frozenset({"--quiet", "-q", "--verbose", "-v"})


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"vmport {__version__}")  # noqa: T201
        raise typer.Exit


def _main_options(
    context: typer.Context,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors and results only; no progress.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say what is done and why, on stderr.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Move virtual machines between hypervisors, and out of them into containers."""
    context.obj = Settings(quiet=quiet, verbose=verbose)


def command_line(names: Iterable[str] = _COMMANDS) -> typer.Typer:
    """The app with the commands of these names."""
    app = typer.Typer(
        name="vmport",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Exit codes: 0 done; 1 the thing looked at falls short; 2 wrong usage; 3 input "
        "cannot be read; 4 refused as unsafe; 5 an outside program is missing or failed; 6 the "
        "output could not be written; 130 interrupted.",
    )
    app.callback()(_main_options)
    for name in names:
        import_module(f"vmport.commands.{name}").register(app)
    return app


def _named(arguments: Iterable[str]) -> Iterable[str]:
    """The one command that is asked for, where that is plain to see; all of them for help.

    Typer takes 4 ms to make up a command, needed or not.
    """
    first = next((item for item in arguments if item not in _BEFORE_A_COMMAND), None)
    return (first,) if first in _COMMANDS else _COMMANDS


def main() -> NoReturn:
    """Run the command line and exit; the entry point of the ``vmport`` script."""
    try:
        code = run(sys.argv[1:])
        stopping.ignore()  # it is decided; to be stopped now, or told again, changes nothing
    except KeyboardInterrupt:  # at the last moment, or while an error was being told
        code = INTERRUPTED
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; no exception leaves here."""
    from vmport_formats.errors import VmportError

    try:
        stopping.hear()
        app = command_line(_named(arguments))
        outcome = app(args=arguments, prog_name="vmport", standalone_mode=False)
        sys.stdout.flush()
    except VmportError as error:
        from vmport.render.errors import print_error

        print_error(error)
        return error.exit_code
    except WrongUsage as error:
        error.show()  # type: ignore[attr-defined]
        return WRONG_USAGE
    except KeyboardInterrupt:
        outcome = INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # The reader of our output went away: its choice, not an error.  Typer turns that into an
        # exit with status 1, and nothing else into an exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if outcome == INTERRUPTED:
        print("vmport: interrupted; nothing half done was left behind", file=sys.stderr)  # noqa: T201
    return outcome if isinstance(outcome, int) else 0
