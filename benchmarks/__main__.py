"""All benchmarks, or some: ``python -m benchmarks [CHAPTER ...]``."""

from __future__ import annotations

from benchmarks import compare, convert, huge, inspect_many, read
from benchmarks.page import options_of, parser, run_all

ALL = {
    "stream": convert.stream,
    "packed": convert.packed,
    "unpacked": convert.unpacked,
    "plain": convert.plain,
    "huge": huge.chapter,
    "inspect": inspect_many.chapter,
    "read": read.chapter,
    "compare": compare.chapter,
}


def main() -> None:
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("benchmark", nargs="*", help=f"of {', '.join(ALL)}; all if none")
    chosen = arguments.parse_args()
    for name in chosen.benchmark:
        if name not in ALL:
            arguments.error(f"{name}: one of {', '.join(ALL)}")
    names = chosen.benchmark or list(ALL)
    chapters = [ALL[name] for name in names]
    run_all(chapters, options_of(chosen), chosen.write, whole=not chosen.benchmark)


if __name__ == "__main__":
    main()
