"""Options of the formats that can be written: right ones pass, wrong ones get a list."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmport.commands.convert import _HELP
from vmport_converters.disk.option_values import Size
from vmport_converters.disk.options import SUFFIXES, TARGETS, read_options, target_format
from vmport_formats.disk.model import DiskFormat
from vmport_formats.disk.vdi import composer as vdi
from vmport_formats.disk.vhd import composer as vhd
from vmport_formats.disk.vhdx import composer as vhdx
from vmport_formats.errors import UsageError
from vmport_formats.units import KIB, MIB


def test_our_defaults_are_there_and_give_way() -> None:
    assert read_options(DiskFormat.VHD, []) == {"subformat": "dynamic", "force_size": "on"}
    assert read_options(DiskFormat.VHD, ["force_size=no"])["force_size"] == "off"
    assert read_options(DiskFormat.QCOW2, []) == {}


def test_values_are_read_as_qemu_img_reads_them() -> None:
    assert read_options(DiskFormat.VMDK, ["subformat=STREAMoptimized,compat6", "zeroed_grain=no"])[
        "subformat"
    ] == ("streamOptimized")
    given_ = read_options(DiskFormat.QCOW2, ["cluster_size=64k", "refcount_bits=8"])
    assert given_ == {"cluster_size": "65536", "refcount_bits": "8"}
    named = read_options(DiskFormat.QCOW2, ["backing_file=a,,b,compat=v2"])
    assert named == {"backing_file": "a,b", "compat": "v2"}


@pytest.mark.parametrize(
    ("target", "options", "code", "listed"),
    [
        ("vmdk", ["subformat=sparse"], "usage.option-value", "streamOptimized"),
        ("vmdk", ["subformat"], "usage.option-value", "streamOptimized"),
        ("qcow2", ["cluster_size=3M"], "usage.option-value", "512 to 2M"),
        ("qcow2", ["cluster_size=65k"], "usage.option-value", "power of two"),
        ("qcow2", ["cluster_size=" + "9" * 30], "usage.option-value", "512 to 2M"),
        ("qcow2", ["refcount_bits=3"], "usage.option-value", "1|2|4"),
        ("qcow2", ["refcount_bits=" + "9" * 5000], "usage.option-value", "1|2|4"),
        ("vdi", ["static=maybe"], "usage.option-value", "on|off"),
        ("vhdx", ["log_size=1537k"], "usage.option-value", "whole MiB"),
        ("vhdx", ["cluster_size=64k"], "usage.option", "block_size="),
        ("raw", [""], "usage.option", "preallocation=off|falloc|full"),
        ("raw", ["preallocation=off,"], "usage.option", "preallocation"),
        ("raw", ["help"], "usage.option", "preallocation=off|falloc|full"),
        ("qcow2", ["backing_file="], "usage.option-value", "is a path"),
        ("qcow2", ["backing_file=a,b"], "usage.option", "compat="),
        ("qcow2", ["backing_file=a,backing_fmt=vpc"], "usage.option-value", "raw|qcow2"),
        ("qcow2", ["backing_fmt=raw"], "usage.option-conflict", "backing_file"),
        ("qcow2", ["backing_file=a,preallocation=full"], "usage.option-conflict", "no prealloc"),
        ("qcow2", ["data_file=a"], "usage.option", "compat="),
        ("qcow2", ["encrypt.format=aes"], "usage.option-value", "is luks"),
        ("qcow2", ["encrypt.key-secret=a"], "usage.option", "is not supported"),
        ("luks", ["key-secret=a"], "usage.option", "is not supported"),
        ("luks", ["iter-time=0"], "usage.option-value", "1 to 10000"),
        ("luks", ["cipher-alg=serpent-256"], "usage.option-value", "aes-128|aes-256"),
        ("qcow2", ["encrypt.iter-time=10"], "usage.option-conflict", "encrypt.format=luks"),
        ("qcow2", ["encrypt.format=luks,backing_file=a"], "usage.option-conflict", "encrypted"),
        ("luks", ["cipher-alg=aes-192"], "usage.option-value", "aes-128|aes-256"),
        ("qcow2", ["size=1T"], "usage.option", "compat="),
        ("raw", ["preallocation=off", "preallocation=full"], "usage.option-twice", "before"),
        ("qcow2", ["compat=0.10,extended_l2=on"], "usage.option-conflict", "0.10"),
        ("qcow2", ["compat=v2,refcount_bits=8"], "usage.option-conflict", "0.10"),
        ("qcow2", ["extended_l2,cluster_size=8k"], "usage.option-conflict", "16k"),
        ("vmdk", ["compat6,hwversion=4"], "usage.option-conflict", "hwversion"),
        ("vmdk", ["subformat=monolithicFlat,zeroed_grain"], "usage.option-conflict", "sparse"),
        ("vhdx", ["block_state_zero=off"], "usage.option-conflict", "fixed"),
    ],
)
def test_wrong_ones_get_a_list_of_right_ones(
    target: str, options: list[str], code: str, listed: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read_options(DiskFormat.named(target), options)
    assert caught.value.code == code
    assert listed in f"{caught.value.problem} {caught.value.hint}"


@given(st.integers(0, 1 << 40), st.sampled_from(["", "b", "k", "K", "M", "G"]))
def test_a_size_is_taken_exactly_when_it_keeps_its_rules(number: int, unit: str) -> None:
    kind = Size(4 * KIB, 2 * MIB, power_of_two=True, multiple=8 * KIB, zero="none")
    size = number * {"": 1, "b": 1, "k": KIB, "m": MIB, "g": 1 << 30}[unit.lower()]
    fits = 4 * KIB <= size <= 2 * MIB and size % (8 * KIB) == 0 and size.bit_count() == 1
    assert kind.read(f"{number}{unit}") == (str(size) if fits or size == 0 else None)


@given(st.text(max_size=12))
def test_no_text_breaks_a_size(text: str) -> None:
    read = Size(1, 100).read(text)
    assert read is None or 1 <= int(read) <= 100


@pytest.mark.parametrize(
    ("destination", "named", "expected"),
    [
        ("x.qcow2", None, DiskFormat.QCOW2),
        ("dir.d/X.VMDK", None, DiskFormat.VMDK),
        ("a.b.vhd", None, DiskFormat.VHD),
        (".img", None, DiskFormat.RAW),
        ("x.qcow2", "vpc", DiskFormat.VHD),
        ("x", "VHDX", DiskFormat.VHDX),
    ],
)
def test_the_format_is_named_or_told_by_the_suffix(
    destination: str, named: str | None, expected: DiskFormat
) -> None:
    assert target_format(destination, named) is expected


@pytest.mark.parametrize(
    ("destination", "named", "code", "listed"),
    [
        ("x", None, "usage.suffix", ".qcow2, .vmdk"),
        ("x.vmdk/y", None, "usage.suffix", "--to raw|qcow2"),
        ("x.ova", None, "usage.suffix", "--to raw|qcow2"),
        ("x.qcow2", "nbd", "usage.format", "raw|qcow2|vmdk|vhd"),
        ("x.qcow2", "qed", "usage.format", "raw|qcow2|vmdk|vhd"),
    ],
)
def test_a_format_that_is_not_told(
    destination: str, named: str | None, code: str, listed: str
) -> None:
    with pytest.raises(UsageError) as caught:
        target_format(destination, named)
    assert caught.value.code == code
    assert listed in f"{caught.value.problem} {caught.value.hint}"


def test_the_reference_page_lists_every_option_with_its_values() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/convert.md").read_text(encoding="utf-8")
    for target, table in TARGETS.items():
        part = page.partition(f"| **{target.code}** |")[2]
        for name, option in table.options.items():
            values = str(option.values).replace("|", " \\| ")
            default = f"; default `{option.default}`" if option.default else ""
            assert f"| | `{name}` | {values} | {option.meaning}{default} |\n" in part


def test_the_help_names_every_format_suffix_and_option() -> None:
    for target, table in TARGETS.items():
        line = next(row for row in _HELP.splitlines() if row.strip().startswith(target.code))
        assert line.partition("[")[0].split() == [target.code, *table.options]
    assert set(SUFFIXES.values()) == set(TARGETS)


def test_limits_are_those_of_the_composers() -> None:
    assert TARGETS[DiskFormat.VHD].largest == vhd.MAX_SIZE
    assert TARGETS[DiskFormat.VHDX].largest == vhdx.MAX_SIZE
    assert TARGETS[DiskFormat.VDI].largest == vdi.MAX_SIZE
