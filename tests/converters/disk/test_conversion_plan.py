"""The plan is a value, and the words for qemu-img follow from it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmport_converters.disk.options import TARGETS, read_options
from vmport_converters.disk.plan import (
    Compression,
    Conversion,
    Engine,
    Wish,
    doubt_of_room,
    plan_conversion,
)
from vmport_converters.disk.qemu.chain import Chain, Link
from vmport_converters.disk.qemu.command import (
    Node,
    ProgressReader,
    convert_argv,
    explain_failure,
    explain_opening,
    size_argv,
    source_node,
)
from vmport_converters.disk.source import Facts
from vmport_converters.disk.stamps import Stamps
from vmport_formats.disk.model import DiskFormat, ImageInfo, Snapshot
from vmport_formats.errors import (
    CorruptInput,
    OutputError,
    ToolFailed,
    UnreadableInput,
    UsageError,
)
from vmport_formats.references import Reference, ReferenceKind
from vmport_formats.units import GIB, MIB, Bytes


def image(disk_format: DiskFormat, size: int = MIB, **fields: object) -> ImageInfo:
    info = ImageInfo(disk_format, "x", virtual_size=Bytes(size), file_size=Bytes(size))
    return info._replace(**fields)  # type: ignore[arg-type]


def facts(*infos: ImageInfo, data: int = 0, snapshot: str | None = None) -> Facts:
    return Facts("0", infos, infos[0].virtual_size, data, snapshot)


def chain(*infos: ImageInfo) -> Chain:
    links = tuple(Link(f"/d/{number}", info) for number, info in enumerate(infos))
    return Chain("0", links, Stamps())


def plan(
    source: Facts,
    target: DiskFormat,
    *options: str,
    compression: Compression | None = None,
    engine: Engine | None = None,
    size_multiple: int = 1,
) -> Conversion:
    chosen = read_options(target, options)
    return plan_conversion(source, Wish(target, chosen, compression, engine, size_multiple))


def test_a_plan() -> None:
    source = facts(image(DiskFormat.QCOW2), data=256 * 1024)
    assert plan(source, DiskFormat.VHD, "subformat=fixed") == Conversion(
        source=source,
        target=DiskFormat.VHD,
        options=(("force_size", "on"), ("subformat", "fixed")),
        compression=Compression.NONE,
        engine=Engine.NATIVE,
        reasons=("it writes VHD itself",),
        copied_first=None,
        virtual_size=Bytes(MIB),
        may_grow=False,
        length=None,
        ordered=False,
        reserved=Bytes(0),
        at_most=Bytes(257 * 1024 + 4 * MIB),
        notes=(),
    )


RAW = facts(image(DiskFormat.RAW))


@pytest.mark.parametrize(
    ("target", "options", "engine"),
    [
        ("raw", "", Engine.NATIVE),
        ("qcow2", "cluster_size=4k,extended_l2=off,lazy_refcounts=on", Engine.NATIVE),
        ("vmdk", "", Engine.NATIVE),
        ("vmdk", "subformat=streamOptimized", Engine.NATIVE),
        ("vmdk", "subformat=monolithicFlat", Engine.QEMU_IMG),
        ("vmdk", "subformat=twoGbMaxExtentSparse", Engine.QEMU_IMG),
        ("vhd", "subformat=fixed", Engine.NATIVE),
        ("vhdx", "", Engine.NATIVE),
        ("vhdx", "subformat=fixed block_state_zero=off log_size=2M", Engine.NATIVE),
        ("vdi", "static=on", Engine.NATIVE),
        ("qcow2", "preallocation=metadata", Engine.NATIVE),
        ("raw", "preallocation=full", Engine.NATIVE),
        ("qcow2", "encrypt.format=luks", Engine.QEMU_IMG),
        ("luks", "", Engine.QEMU_IMG),
    ],
)
def test_the_engine_that_can(target: str, options: str, engine: Engine) -> None:
    named = DiskFormat.named(target)
    made = plan(RAW, named, *options.split())
    assert made.engine is engine
    assert made.reasons
    assert plan(RAW, named, *options.split(), engine=Engine.QEMU_IMG).engine is Engine.QEMU_IMG
    if engine is Engine.QEMU_IMG:
        with pytest.raises(UsageError, match=re.escape(f"--engine native: {made.reasons[0]}")):
            plan(RAW, named, *options.split(), engine=Engine.NATIVE)


@pytest.mark.parametrize(
    ("target", "options", "compression", "problem"),
    [
        ("raw", "", "fast", "raw images are not compressed"),
        ("vhdx", "", "small", "VHDX images are not compressed"),
        ("vmdk", "", "fast", "only -o subformat=streamOptimized is compressed"),
        ("vmdk", "subformat=streamOptimized", "zstd", "deflate: fast or small"),
        ("vmdk", "subformat=streamOptimized", "none", "is always compressed"),
        ("qcow2", "compression_type=zstd", "fast", "compression_type=zstd is another"),
        ("qcow2", "compat=0.10", "zstd", "compat=0.10 knows no"),
        ("qcow2", "preallocation=full", "fast", "compressed has no preallocation"),
        ("qcow2", "encrypt.format=luks", "fast", "encrypted is not compressed"),
    ],
)
def test_compression_that_a_format_has_not(
    target: str, options: str, compression: str, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        plan(RAW, DiskFormat.named(target), *options.split(), compression=Compression(compression))


def test_compression_and_the_option_that_goes_with_it() -> None:
    made = plan(RAW, DiskFormat.QCOW2, compression=Compression.ZSTD)
    assert dict(made.options) == {"compression_type": "zstd"}
    assert plan(RAW, DiskFormat.QCOW2).compression is Compression.NONE
    stream = plan(RAW, DiskFormat.VMDK, "subformat=streamOptimized")
    assert stream.compression is Compression.FAST


def test_what_qemu_img_must_not_read_itself() -> None:
    def by_qemu_img(source: Facts) -> Conversion:
        return plan(source, DiskFormat.VMDK, "subformat=monolithicFlat")

    def copied(source: Facts) -> str | None:
        return by_qemu_img(source).copied_first

    assert copied(RAW) is None
    # The copy takes space too, until the end.
    space = [
        by_qemu_img(facts(image(DiskFormat.QCOW2, encrypted=it), data=MIB)).at_most
        for it in (False, True)
    ]
    assert space[1] - space[0] == MIB
    encrypted = facts(image(DiskFormat.QCOW2, encrypted=True))
    assert copied(encrypted) == "the source is encrypted"
    assert plan(encrypted, DiskFormat.VDI).copied_first is None
    assert plan(encrypted, DiskFormat.VDI).notes == (
        "the source is encrypted; the destination is not",
    )
    assert copied(facts(image(DiskFormat.QCOW2), snapshot="1")) == "the snapshot '1' is read"
    parent = Reference(ReferenceKind.PARENT, "p")
    child = facts(image(DiskFormat.VHD, references=(parent,)), image(DiskFormat.VHD))
    assert "qemu-img would read that as zeros" in (copied(child) or "")


def test_a_size_that_has_to_be_a_multiple() -> None:
    odd = facts(image(DiskFormat.RAW, MIB + 512, file_size=Bytes(MIB + 100)))
    made = plan(odd, DiskFormat.RAW, size_multiple=MIB)
    assert (made.virtual_size, made.length) == (2 * MIB, None)
    longer = "the disk was made longer, from 1049088 to 2097152 bytes"
    assert made.notes == (longer,)
    made = plan(replace(odd, has_gpt=True), DiskFormat.RAW, size_multiple=MIB)
    assert made.notes[0] == longer
    assert "second table of its GPT" in made.notes[1]
    # qemu-img cannot lengthen a disk while it converts it, so it gets one that is long enough.
    by_qemu = plan(odd, DiskFormat.RAW, size_multiple=MIB, engine=Engine.QEMU_IMG)
    assert by_qemu.copied_first == "the disk has to become longer"
    whole = facts(image(DiskFormat.RAW, 2 * MIB))
    by_qemu = plan(whole, DiskFormat.RAW, size_multiple=MIB, engine=Engine.QEMU_IMG)
    assert (by_qemu.copied_first, by_qemu.notes) == (None, ())


@pytest.mark.parametrize(
    ("target", "options", "ordered"),
    [
        ("raw", "", False),
        ("qcow2", "", True),
        ("qcow2", "preallocation=metadata", True),
        ("vmdk", "subformat=streamOptimized", True),
        ("vmdk", "subformat=monolithicFlat", False),
        ("vmdk", "subformat=twoGbMaxExtentFlat", False),
        ("vhd", "", True),
        ("vhd", "subformat=fixed", False),
        ("vdi", "static=on", False),
        ("luks", "", False),
    ],
)
def test_writes_overtake_each_other_only_where_it_does_not_show(
    target: str, options: str, ordered: bool
) -> None:
    made = plan(RAW, DiskFormat.named(target), *options.split(), engine=Engine.QEMU_IMG)
    assert made.ordered is ordered
    argv = convert_argv("/q", made, source_node(chain(*RAW.infos)), "out")
    assert ("-W" in argv) is not ordered


def test_qemu_img_compresses_where_that_is_wished_for() -> None:
    for target, options, compression in (
        (DiskFormat.QCOW2, (), Compression.ZSTD),
        (DiskFormat.QCOW2, (), Compression.NONE),
        (DiskFormat.VMDK, ("subformat=streamOptimized",), Compression.FAST),
    ):
        made = plan(RAW, target, *options, compression=compression, engine=Engine.QEMU_IMG)
        argv = convert_argv("/q", made, source_node(chain(*RAW.infos)), "out")
        assert ("-c" in argv) is (compression is Compression.ZSTD)


def test_a_new_passphrase_is_no_word_of_the_command_line() -> None:
    for target, option in ((DiskFormat.LUKS, "iter-time=9"), (DiskFormat.QCOW2, "encrypt.format")):
        made = plan(RAW, target, option if "=" in option else f"{option}=luks")
        argv = convert_argv("/q", made, source_node(chain(*RAW.infos)), "out", {"new": 7})
        assert argv[argv.index("--object") + 1] == "secret,id=new,file=/dev/fd/7"
        prefix = option.partition("format")[0] if "format" in option else ""
        assert argv[argv.index("-o") + 1].endswith(f",{prefix}key-secret=new")


def test_what_is_said_of_encryption() -> None:
    secret = facts(image(DiskFormat.LUKS, encrypted=True))
    assert plan(secret, DiskFormat.RAW).notes == (
        "the source is encrypted; the destination is not",
    )
    old = facts(image(DiskFormat.QCOW2, encrypted=True, details={"encrypt": {"format": "aes"}}))
    (note,) = plan(old, DiskFormat.LUKS).notes
    assert "a copy that is not encrypted lies in the destination's folder" in note
    # Of LUKS, qemu-img is given the passphrase, so that there is no such copy.
    assert plan(secret, DiskFormat.LUKS).notes == ()
    assert plan(secret, DiskFormat.LUKS).copied_first is None
    luks = image(DiskFormat.QCOW2, encrypted=True, details={"encrypt": {"format": "luks"}})
    argv = size_argv("/q", source_node(chain(luks, secret.top)), {"old": 5})
    assert argv[2:4] == ["--object", "secret,id=old,file=/dev/fd/5"]
    assert argv[-1] == (
        "driver=qcow2,file.driver=file,file.filename=/d/0,"
        "encrypt.format=luks,encrypt.key-secret=old,backing.driver=luks,"
        "backing.file.driver=file,backing.file.filename=/d/1,backing.key-secret=old"
    )
    assert plan(RAW, DiskFormat.LUKS).notes == ()
    assert plan(RAW, DiskFormat.LUKS).reserved == MIB


def test_a_raw_length_is_kept_where_it_can_be() -> None:
    source = facts(image(DiskFormat.RAW, 1024, file_size=Bytes(600)))
    assert plan(source, DiskFormat.RAW).length == 600
    assert plan(source, DiskFormat.RAW).notes == ()
    assert plan(source, DiskFormat.VDI).length is None
    assert plan(source, DiskFormat.VDI).notes == (
        "424 zero bytes were added at the end, to fill the last sector of 512",
    )


def test_what_is_lost_is_said() -> None:
    top = image(
        DiskFormat.QCOW2,
        dirty=True,
        snapshots=(Snapshot("1", "before", Bytes(0), 0), Snapshot("2", "", Bytes(0), 0)),
        details={"bitmaps": [{"name": "backup"}]},
    )
    assert plan(facts(top, image(DiskFormat.RAW)), DiskFormat.VMDK).notes == (
        "2 images, each resting on the next, became one",
        "internal snapshots were not copied: before, 2",
        "dirty bitmaps were not copied: backup",
        "the source was not closed cleanly; it was copied as it is",
    )


@pytest.mark.parametrize(
    ("target", "largest"),
    [
        (DiskFormat.VHD, 2040 * GIB),
        (DiskFormat.VHDX, 64 << 40),
        (DiskFormat.VMDK, 62 << 40),
        (DiskFormat.VDI, 1_125_350_151_028_736),
    ],
)
def test_a_disk_that_is_too_large(target: DiskFormat, largest: int) -> None:
    size = TARGETS[target].largest
    assert size == largest
    with pytest.raises(UsageError, match=rf"{largest} \({largest // GIB} GiB\)"):
        plan(facts(image(DiskFormat.RAW, largest + 512)), target)
    assert plan(facts(image(DiskFormat.RAW, largest)), target).notes == ()


@pytest.mark.parametrize("engine", [None, Engine.QEMU_IMG])
def test_more_data_than_the_file_of_a_vmdk_can_hold(engine: Engine | None) -> None:
    """Its tables name sectors of 512 bytes by 32 bits; its tables and header take some, too."""
    limit = (1 << 32) * 512
    disk = facts(image(DiskFormat.RAW, 3 * limit), data=limit)
    with pytest.raises(UsageError, match=r"2 TiB of data do not fit .* ends at 2 TiB") as caught:
        plan(disk, DiskFormat.VMDK, engine=engine)
    assert caught.value.code == "usage.too-much-data"
    assert "twoGbMaxExtentSparse" in (caught.value.hint or "")
    for target, options in (
        (DiskFormat.VMDK, ["subformat=twoGbMaxExtentSparse"]),
        (DiskFormat.VMDK, ["subformat=monolithicFlat"]),
        (DiskFormat.VHDX, []),
        (DiskFormat.QCOW2, []),
    ):
        assert doubt_of_room(plan(disk, target, *options, engine=engine)) is None
    # Nobody knows how small it becomes.
    stream = plan(disk, DiskFormat.VMDK, "subformat=streamOptimized", engine=engine)
    assert "do not pack into that" in (doubt_of_room(stream) or "")
    for known in (None, limit // 2):
        fits = plan(replace(disk, data=known), DiskFormat.VMDK, engine=engine)
        assert doubt_of_room(fits) is None


def test_every_file_and_format_of_a_chain_is_told() -> None:
    source = chain(image(DiskFormat.QCOW2), image(DiskFormat.VMDK), image(DiskFormat.RAW))
    made = plan(facts(*(link.info for link in source.links)), DiskFormat.QCOW2, "compat=1.1")
    assert convert_argv("/q", made, source_node(source, {"/d/1": "/s/1.vmdk"}), "-o") == [
        "/q", "convert", "-p", "-O", "qcow2", "-o", "compat=1.1", "-t", "unsafe", "-m", "16",
        "--image-opts", "--",
        "driver=qcow2,file.driver=file,file.filename=/d/0,"
        "backing.driver=vmdk,backing.file.driver=file,backing.file.filename=/s/1.vmdk,"
        "backing.backing.driver=raw,backing.backing.file.driver=file,"
        "backing.backing.file.filename=/d/2",
        "./-o",
    ]  # fmt: skip


def test_the_size_rule_of_a_vhd_is_told() -> None:
    by_footer = image(DiskFormat.VHD, MIB, details={"current-size": MIB + 100})
    by_geometry = image(DiskFormat.VHD, MIB, details={"current-size": 2 * MIB})
    assert source_node(chain(by_footer)).options == (("force_size_calc", "current_size"),)
    assert source_node(chain(by_geometry)).options == (("force_size_calc", "chs"),)


def unquote(text: str) -> dict[str, str]:
    """A list of options as qemu reads it: commas separate, two of them are one."""
    items = text.replace(",,", "\0").split(",")
    pairs = (item.partition("=") for item in items)
    return {key: value.replace("\0", ",") for key, _, value in pairs}


@given(st.text(st.characters(exclude_characters="\0"), min_size=1).map(lambda name: f"/{name}"))
def test_any_name_is_but_a_name(name: str) -> None:
    for node in (Node("raw", name), Node("qcow2", name, (), name)):
        *before, options, images, text = size_argv("/q", node)
        assert before == ["/q", "measure", "--output=json", "-O", "raw"]
        assert [options, images] == ["--image-opts", "--"]
        named = {"driver": node.driver, "file.driver": "file", "file.filename": name}
        if node.data_file is not None:
            named |= {"data-file.driver": "file", "data-file.filename": name}
        assert unquote(text) == named


@given(st.lists(st.integers(0, 10000), min_size=1), st.data())
def test_progress_is_read_however_it_is_cut(steps: list[int], data: st.DataObject) -> None:
    said = b"".join(b"    (%.2f/100%%)\r" % (step / 100) for step in steps)
    reader, shares = ProgressReader(), []
    while said:
        cut = data.draw(st.integers(1, len(said)))
        shares.append(reader.feed(said[:cut]))
        said = said[cut:]
    heard = [share for share in shares if share is not None]
    assert heard[-1] == pytest.approx(steps[-1] / 10000)
    assert len(reader.rest) <= 200


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        ("qemu-img: error while writing at byte 0: No space left on device", OutputError,
         "output.write"),
        ("qemu-img: ./x: error while converting qcow2: Could not create './x': File too large",
         OutputError, "output.write"),
        ("qemu-img: ./x: error while converting vmdk: Could not create './x-flat.vmdk': "
         "File name too long", OutputError, "output.create"),
        ("qemu-img: error while reading at byte 512: Input/output error", CorruptInput,
         "convert.read"),
        ("qemu-img: error while writing at byte 512: Input/output error", OutputError,
         "output.write"),
    ],
)  # fmt: skip
def test_whose_fault_a_failure_was(said: str, kind: type[Exception], code: str) -> None:
    error = explain_failure(chain(image(DiskFormat.RAW)), "dst", f"warning\n{said}\n")
    assert type(error) is kind
    assert error is not None
    assert error.code == code
    assert explain_failure(chain(image(DiskFormat.RAW)), "dst", "Aborted") is None


@pytest.mark.parametrize(
    ("said", "kind", "problem"),
    [
        ("qemu-img: Could not open 'driver=raw,x': Failed to get shared \"write\" lock\n"
         "Is another process using the image [/x]?", UnreadableInput, "is in use by another"),
        ("qemu-img: Could not open 'a:b': Image is broken", CorruptInput,
         "qemu-img cannot open it: Image is broken"),
        ("qemu-img: Could not open 'x': Unknown driver 'qed'", ToolFailed,
         "this qemu-img cannot read raw"),
        ("", CorruptInput, "did not say why"),
    ],
)  # fmt: skip
def test_why_the_source_does_not_open(said: str, kind: type[Exception], problem: str) -> None:
    error = explain_opening(chain(image(DiskFormat.RAW)), said)
    assert type(error) is kind
    assert problem in error.problem
