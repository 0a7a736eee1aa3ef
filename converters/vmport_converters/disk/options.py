"""What each format can be written as: its options, by qemu-img's names, with their values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_converters.disk.option_values import Choice, Name, Number, Size, Switch
from vmport_formats.disk.model import DiskFormat
from vmport_formats.errors import UsageError
from vmport_formats.units import GIB, KIB, MIB, Bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from os import PathLike

    from vmport_converters.disk.option_values import Kind


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a format."""

    values: Kind
    meaning: str
    default: str | None = None
    """What we pass when the user says nothing; None leaves it to qemu-img."""


@dataclass(frozen=True, slots=True)
class Target:
    """A format that can be written."""

    options: Mapping[str, Option]
    largest: Bytes | None = None
    """Virtual size that it can hold at most, where that is less than a disk may well have."""


_ENCRYPTION: Final = {
    # Not aes-192: its 4000 stripes are no whole sectors, and qemu-img aborts.
    "cipher-alg": Option(Choice(("aes-128", "aes-256")), "cipher, with the bits of its key"),
    "cipher-mode": Option(Choice(("xts", "cbc")), "how the blocks of a sector hang together"),
    "ivgen-alg": Option(
        Choice(("plain", "plain64", "essiv")), "how a sector's number starts its encryption"
    ),
    "hash-alg": Option(
        Choice(("sha1", "sha224", "sha256", "sha384", "sha512")), "of the passphrase"
    ),
    "iter-time": Option(
        Number(range(1, 10_001)), "milliseconds that a try of a passphrase is to take here"
    ),
}
"""By qemu-img's names, and no more than our own readers know."""

TARGETS: Final[Mapping[DiskFormat, Target]] = {
    DiskFormat.RAW: Target(
        {
            "preallocation": Option(
                Choice(("off", "falloc", "full")), "reserve the space, or fill it with zeros, first"
            ),
        }
    ),
    DiskFormat.QCOW2: Target(
        {
            "backing_file": Option(
                Name(), "write an overlay on this image, which is found from the folder of DST"
            ),
            "backing_fmt": Option(
                Choice(("raw", "qcow2", "vmdk", "vhdx", "vdi", "qed", "qcow", "parallels")),
                "format of backing_file; needed where that is raw",
            ),
            "compat": Option(Choice(("0.10", "1.1", "v2", "v3")), "version of the format"),
            "cluster_size": Option(Size(512, 2 * MIB, power_of_two=True), "unit of allocation"),
            "compression_type": Option(Choice(("zlib", "zstd")), "of compressed clusters"),
            "encrypt.format": Option(
                Choice(("luks",)), "encrypt the content; the passphrase is in --new-passphrase-file"
            ),
            **{f"encrypt.{key}": option for key, option in _ENCRYPTION.items()},
            "extended_l2": Option(
                Switch(), "track 32 parts of each cluster; needs a cluster_size of 16k or more"
            ),
            "lazy_refcounts": Option(Switch(), "put updates of reference counts off"),
            "preallocation": Option(
                Choice(("off", "metadata", "falloc", "full")), "make tables, reserve space, first"
            ),
            "refcount_bits": Option(
                Number((1, 2, 4, 8, 16, 32, 64)), "width of a reference count"
            ),
        }
    ),
    DiskFormat.VMDK: Target(
        {
            "subformat": Option(
                Choice(
                    (
                        "monolithicSparse",
                        "streamOptimized",
                        "monolithicFlat",
                        "twoGbMaxExtentSparse",
                        "twoGbMaxExtentFlat",
                    )
                ),
                "how the disk is laid out in one or several files",
                default="monolithicSparse",
            ),
            "adapter_type": Option(
                Choice(("ide", "lsilogic", "buslogic", "legacyESX")),
                "the controller that the descriptor names",
            ),
            "hwversion": Option(Number(range(1, 100)), "virtual hardware version"),
            "toolsversion": Option(Number(range(2**31)), "version of the VMware tools"),
            "compat6": Option(Switch(), "virtual hardware version 6; not with hwversion"),
            "zeroed_grain": Option(Switch(), "mark grains of zeros; only some products read it"),
        },
        largest=Bytes(62 * 1024 * GIB),  # ESXi's limit; above it, no product of VMware opens it
    ),
    DiskFormat.VHD: Target(
        {
            "subformat": Option(
                Choice(("dynamic", "fixed")), "grow with the data, or not", default="dynamic"
            ),
            "force_size": Option(
                Switch(),
                "keep the exact size; off rounds it up to a geometry, as Virtual PC did",
                default="on",
            ),
        },
        largest=Bytes(2040 * GIB),
    ),
    DiskFormat.VHDX: Target(
        {
            "subformat": Option(
                Choice(("dynamic", "fixed")), "grow with the data, or not", default="dynamic"
            ),
            "block_size": Option(
                Size(MIB, 256 * MIB, power_of_two=True, zero="as the disk's size suggests"),
                "unit of allocation",
            ),
            "log_size": Option(Size(MIB, 4095 * MIB, multiple=MIB), "length of the log"),
            "block_state_zero": Option(
                Switch(), "mark blocks of zeros as such; off only with subformat=fixed"
            ),
        },
        largest=Bytes(64 * 1024 * GIB),
    ),
    DiskFormat.VDI: Target(
        {"static": Option(Switch(), "a fixed disk: all blocks have their place from the start")},
        largest=Bytes(0x3FF8_0000 * MIB),  # vdi.composer.MAX_SIZE, without all that it needs
    ),
    DiskFormat.LUKS: Target(_ENCRYPTION),
}  # fmt: skip
"""Formats that can be written, and how."""

_CONFLICTS: Final[
    Mapping[DiskFormat, tuple[tuple[Callable[[Mapping[str, str]], bool], str], ...]]
] = {
    DiskFormat.QCOW2: (
        (
            lambda given: "backing_fmt" in given and "backing_file" not in given,
            "backing_fmt is the format of a backing_file; give that as well",
        ),
        (
            lambda given: (
                "encrypt.format" not in given and any(key.startswith("encrypt.") for key in given)
            ),
            "encrypt.format=luks is needed with the other options of encryption",
        ),
        (
            lambda given: "encrypt.format" in given and "backing_file" in given,
            "an overlay on a backing_file is not encrypted",
        ),
        (
            lambda given: "backing_file" in given and given.get("preallocation", "off") != "off",
            "an overlay on a backing_file has no preallocation",
        ),
        (
            lambda given: (
                given.get("compat") in {"0.10", "v2"}
                and (
                    given.get("extended_l2") == "on"
                    or given.get("lazy_refcounts") == "on"
                    or given.get("refcount_bits", "16") != "16"
                    or given.get("compression_type") == "zstd"
                )
            ),
            "compat=0.10 knows no extended_l2, lazy_refcounts, refcount_bits or zstd",
        ),
        (
            lambda given: (
                given.get("extended_l2") == "on"
                and int(given.get("cluster_size", "65536")) < 16 * KIB
            ),
            "extended_l2 needs a cluster_size of 16k or more",
        ),
    ),
    DiskFormat.VMDK: (
        (
            lambda given: given.get("compat6") == "on" and "hwversion" in given,
            "compat6 sets the hwversion; give one of them",
        ),
        (
            lambda given: given.get("zeroed_grain") == "on" and "Flat" in given["subformat"],
            "zeroed_grain needs a sparse subformat",
        ),
    ),
    DiskFormat.VHDX: (
        (
            # Blocks never written are then marked as "not present", and may hold anything.
            lambda given: given.get("block_state_zero") == "off" and given["subformat"] != "fixed",
            "block_state_zero=off needs subformat=fixed, or zeros would not stay zeros",
        ),
    ),
}
"""What does not go together, told before any work is done."""

SUFFIXES: Final[Mapping[str, DiskFormat]] = {
    ".qcow2": DiskFormat.QCOW2,
    ".vmdk": DiskFormat.VMDK,
    ".vhd": DiskFormat.VHD,
    ".vhdx": DiskFormat.VHDX,
    ".vdi": DiskFormat.VDI,
    ".raw": DiskFormat.RAW,
    ".img": DiskFormat.RAW,
    ".luks": DiskFormat.LUKS,
}
"""What a destination's name says about its format; a source's says nothing."""

_NOT_YET: Final = re.compile(r"data_file|encryption|.*key-secret")


def target_format(destination: str | PathLike[str], named: str | None) -> DiskFormat:
    """The format to write: the one that is `named`, or else that of the destination's suffix.

    Raises:
        UsageError: no such format, none that can be written, or a suffix that says nothing.
    """
    known = "|".join(item.code for item in TARGETS)
    if named is not None:
        try:
            found = DiskFormat.named(named)
        except ValueError:
            problem = f"--to {named}: there is no such format"
        else:
            if found in TARGETS:
                return found
            problem = f"--to {named}: {found.label} can be read, not written"
        raise UsageError(None, code="usage.format", problem=problem, hint=f"one of {known}")
    suffix = re.search(r"\.[^./]*$", str(destination).rstrip("/"))
    if suffix is None or (by_suffix := SUFFIXES.get(suffix[0].lower())) is None:
        raise UsageError(
            str(destination),
            code="usage.suffix",
            problem="the name does not say which format to write; it would by ending in "
            + ", ".join(SUFFIXES),
            hint=f"or pass --to {known}",
        )
    return by_suffix


def read_options(target: DiskFormat, given: Iterable[str]) -> dict[str, str]:
    """The options of `target` in ``KEY=VALUE`` texts, of one or several each, with our defaults.

    Raises:
        UsageError: an unknown key or value, with the list of right ones; a key given twice.
    """
    table = TARGETS[target].options
    chosen: dict[str, str] = {}
    for item in (part for text in given for part in split_options(text)):
        key, equals, value = item.partition("=")
        option = table.get(key)
        if option is None:
            raise _unknown_key(target, key)
        read = option.values.read(value if equals else "on")
        if read is None:
            raise UsageError(
                None,
                code="usage.option-value",
                problem=f"-o {item}: {key} of {target.label} is {option.values} ({option.meaning})",
            )
        if key in chosen:
            raise UsageError(
                None, code="usage.option-twice", problem=f"-o {item}: {key} was given before"
            )
        chosen[key] = read
    defaults = {key: option.default for key, option in table.items() if option.default}
    options = {**defaults, **chosen}
    check_options(target, options)
    return options


def split_options(text: str) -> list[str]:
    """The options in `text`, as qemu reads it: commas separate them, but two of them are one."""
    return [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]


def encrypts(target: DiskFormat, options: Mapping[str, str]) -> bool:
    """Whether the content will be encrypted."""
    return target is DiskFormat.LUKS or "encrypt.format" in options


def check_passphrase(passphrase: bytes | None, *, wanted: bool) -> None:
    """That one is given for a destination where it is `wanted`, and that qemu-img takes it.

    Raises:
        UsageError: it is missing, not wanted, empty, too long or no text.
    """
    problem = None
    if passphrase is None:
        if wanted:
            problem = "is needed: the destination is encrypted"
    elif not wanted:
        problem = "the destination is not encrypted; -o encrypt.format=luks or --to luks make it so"
    else:
        problem = unfit_for_qemu(passphrase)
    if problem is not None:
        raise UsageError(
            None, code="usage.new-passphrase", problem=f"--new-passphrase-file: {problem}"
        )


def unfit_for_qemu(passphrase: bytes) -> str | None:
    """Why qemu-img would not take it, if that is so."""
    from vmport_converters.process import MOST_SECRET

    if not 0 < len(passphrase) <= MOST_SECRET:
        return f"holds {len(passphrase)} bytes; must be 1 to {MOST_SECRET}"
    try:
        text = passphrase.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    return "is no text in UTF-8, which qemu-img wants" if "\0" in text else None


def check_options(target: DiskFormat, options: Mapping[str, str]) -> None:
    """That they go together.

    Raises:
        UsageError: they do not.
    """
    for broken, why in _CONFLICTS.get(target, ()):
        if broken(options):
            raise UsageError(None, code="usage.option-conflict", problem=f"-o: {why}")


def _unknown_key(target: DiskFormat, key: str) -> UsageError:
    table = TARGETS[target].options
    if _NOT_YET.match(key):
        problem = f"-o {key}: is not supported"
    else:
        problem = f"-o {key}: {target.label} has no such option"
    return UsageError(
        None,
        code="usage.option",
        problem=problem,
        hint="; ".join(f"{name}={option.values}" for name, option in table.items()),
    )
