"""Lets other programs read what convert writes: ``python -m tests.readers --help``."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from fixtures.guest import make_guest
from tests.readers.appliance import CACHE, told
from tests.readers.disks import VARIANTS, opaque, plain
from tests.readers.programs import READERS, Reader, lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.readers.disks import Disk

_EQUAL: Final = "equal"
_COLUMNS: Final = ("reader", "version", *VARIANTS, "seconds")
_PAGE: Final = """\
# What other programs read in our VMDKs

The disk: {what}.  `vmport convert` writes it as three VMDKs, and each program reads all of each.
*Equal* means that the SHA-256 of what it found is that of the disk as qemu-img reads the source.

    {command}

{table}

- *VMware's vmdk-convert* is open-vmdk's; it also says of both streams that their header has version
  3, that their grains are in order, and that they end with a footer.
- *libguestfs* stands for the kernel in its small virtual machine, which reads the VMDKs as disks.
- *virt-v2v* converts a guest whose first disk is such a stream, too.  What is compared are three
  more disks of that guest, which it copies: on these the same content begins at no whole grain, so
  that virt-v2v finds no file system to mount and trim there.
- {when}, on {system}.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one reader."""

    reader: Reader
    version: str = ""
    results: dict[str, str] = field(default_factory=dict)
    """By the names of the images; not there: was not read."""
    seconds: float = 0.0
    problem: str = ""

    @property
    def good(self) -> bool:
        """Whether it read what it should; if it is not here, whether it may be missing."""
        if not self.version:
            return not (self.reader.packaged and os.environ.get("CI", "") not in {"", "0", "false"})
        return not self.problem and set(self.results.values()) == {_EQUAL}

    @property
    def cells(self) -> tuple[str, ...]:
        """As a row of `_COLUMNS`."""
        results = [self.results.get(name, self.problem) for name in VARIANTS]
        return (self.reader.name, self.version, *results, f"{self.seconds:.1f}")


def ask(reader: Reader, disk: Disk, folder: Path) -> Row:
    """Let it read `disk`."""
    if missing := [name for name in reader.needs if shutil.which(name) is None]:
        return Row(reader, problem=f"{', '.join(missing)} is not here")
    version = _version(reader)
    begin = time.monotonic()
    try:
        digests = reader.digests(disk.images, folder)
    except subprocess.CalledProcessError as failure:
        return Row(reader, version, problem=f"**failed**: {told(failure)}")
    except (ValueError, OSError, subprocess.TimeoutExpired) as wrong:
        return Row(reader, version, problem=f"**failed**: {wrong}")
    results = {
        name: _EQUAL if digest == disk.digest else "**differs**" for name, digest in digests.items()
    }
    return Row(reader, version, results, time.monotonic() - begin)


def _version(reader: Reader) -> str:
    if not reader.version:
        return "does not tell"
    done = subprocess.run(reader.version, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.[\w.]+|\d{8}", next(lines(done.stdout), ""))
    return found[0] if found else "unknown"


def table(rows: Sequence[Row]) -> str:
    """As Markdown."""
    made = [_COLUMNS, ("---", "---", *("---" for _ in VARIANTS), "--:")]
    made += [row.cells for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in made)


def main() -> int:
    """Run what the command line asks for; 1 if a reader did not find the disk."""
    parser = argparse.ArgumentParser(prog="python -m tests.readers", description=__doc__)
    names = [reader.name for reader in READERS]
    parser.add_argument("--disk", type=Path, help="an image; by default, of the demo's guest")
    parser.add_argument("--only", action="append", choices=names, help="may be repeated")
    parser.add_argument("--write", type=Path, help="a page with the table")
    given = parser.parse_args()
    source = given.disk or make_guest(CACHE / "guest").disk
    chosen = [reader for reader in READERS if not given.only or reader.name in given.only]
    rows = []
    with TemporaryDirectory(prefix="vmport-readers-") as name:
        for make, readers in (
            (plain, [reader for reader in chosen if not reader.opaque]),
            (opaque, [reader for reader in chosen if reader.opaque]),
        ):
            folder = Path(name, make.__name__)
            folder.mkdir()
            disk = make(source, folder) if readers else None
            for reader in readers:
                assert disk
                print(f"{reader.name} ...", file=sys.stderr, flush=True)
                rows.append(ask(reader, disk, folder))
            shutil.rmtree(folder)
    print(table(rows))
    if given.write:
        what = (
            f"`{given.disk.name}`"
            if given.disk
            else "that of the demo's guest, a Debian kernel on ext4"
        )
        given.write.write_text(
            _PAGE.format(
                what=what,
                command=f"make readers ARGS={shlex.quote(shlex.join(sys.argv[1:]))}",
                table=table(rows),
                when=f"{datetime.now(UTC):%Y-%m-%d}",
                system=_system(),
            ),
            encoding="utf-8",
        )
    return 0 if all(row.good for row in rows) else 1


def _system() -> str:
    text = Path("/etc/os-release").read_text(encoding="utf-8")
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
    return found[1] if found else sys.platform


if __name__ == "__main__":
    sys.exit(main())
