"""Every kind of disk image that ``qemu-img create`` and ``convert`` can make, as a table."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_SECRET = ("--object", "secret,id=key,data=open-sesame")


@dataclass(frozen=True)
class Variant:
    """One image: what to ask `qemu-img` for."""

    id: str
    format: str
    options: str = ""
    """As for ``-o``."""
    size: int = MIB
    backing_format: str | None = None
    """It overlays an image of this format."""
    secret: bool = False
    content: bool = False
    """It is converted from a disk with data, rather than created empty."""
    compressed: bool = False
    then: tuple[str, ...] = ()
    """Further ``qemu-img`` commands; ``{}`` stands for the image."""


def make(variant: Variant, folder: Path) -> Path:
    """Make the image, alone in `folder` with the files that it names; its path."""
    image = folder / f"image.{variant.format}"
    options = ["-o", variant.options.replace("{}", str(folder))] if variant.options else []
    secret = list(_SECRET) if variant.secret else []
    if variant.content:
        source = folder / "source.raw"
        source.write_bytes(disk(variant.size))
        compress = ["-c"] if variant.compressed else []
        target = ["-O", variant.format, *compress, *options]
        _qemu_img("convert", *secret, "-f", "raw", *target, source, image)
    else:
        backing: list[str | Path] = []
        if variant.backing_format is not None:
            base = folder / f"base.{variant.backing_format}"
            _qemu_img("create", "-f", variant.backing_format, base, str(variant.size))
            # Relative, as people should name it; qemu-img looks for it beside the image.
            backing = ["-b", base.name, "-F", variant.backing_format]
        _qemu_img(
            "create", *secret, "-f", variant.format, *backing, *options, image, str(variant.size)
        )
    for command in variant.then:
        _qemu_img(*(word.replace("{}", str(image)) for word in command.split()))
    return image


def disk(size: int) -> bytes:
    """A disk of `size` bytes: data that compresses badly, zeros, data that compresses well."""
    block = bytes(range(256)) * 16
    data = bytearray(size)
    for place in range(0, size - len(block), 5 * 64 * KIB):
        data[place : place + len(block)] = block
    return bytes(data)


def _qemu_img(*arguments: str | Path) -> None:
    for _ in range(10):
        done = subprocess.run(
            ["qemu-img", *map(str, arguments)], capture_output=True, text=True, check=False
        )
        # It measures hashing for a LUKS header, and gives up if that fell between two ticks.
        if "Unable to get accurate CPU usage" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr


def _raw() -> Iterator[Variant]:
    for size in (512, 513, MIB, 64 * GIB + 512):
        yield Variant(f"raw-{size}", "raw", size=size)


def _qcow2() -> Iterator[Variant]:
    sizes = [512 << bits for bits in range(13)]
    for compat, cluster in product(("0.10", "1.1"), sizes):
        yield Variant(
            f"qcow2-{compat}-cluster-{cluster}", "qcow2", f"compat={compat},cluster_size={cluster}"
        )
    for cluster in sizes[5:]:
        yield Variant(
            f"qcow2-extended-l2-{cluster}", "qcow2", f"extended_l2=on,cluster_size={cluster}"
        )
    for bits in (1, 2, 4, 8, 16, 32, 64):
        for content in (False, True):
            name = f"qcow2-refcount-{bits}{'-content' * content}"
            yield Variant(name, "qcow2", f"refcount_bits={bits}", content=content)
    for size in (0, 512, 3 * MIB + 512, 3 * GIB, 1 << 45):
        yield Variant(f"qcow2-size-{size}", "qcow2", size=size)
    yield Variant("qcow2-size-2^60", "qcow2", "cluster_size=2M", size=1 << 60)
    for how in ("metadata", "falloc", "full"):
        yield Variant(f"qcow2-{how}", "qcow2", f"preallocation={how},cluster_size=4k")
    yield Variant("qcow2-lazy", "qcow2", "lazy_refcounts=on")
    yield Variant("qcow2-zstd", "qcow2", "compression_type=zstd")
    for backing in ("raw", "qcow2", "vmdk", "vpc"):
        yield Variant(f"qcow2-over-{backing}", "qcow2", backing_format=backing)
    yield Variant("qcow2-0.10-over-qcow2", "qcow2", "compat=0.10", backing_format="qcow2")
    for raw in ("on", "off"):
        options = f"data_file={{}}/data.raw,data_file_raw={raw}"
        yield Variant(f"qcow2-data-file-raw-{raw}", "qcow2", options)
        yield Variant(f"qcow2-data-file-raw-{raw}-content", "qcow2", options, content=True)
    key = "encrypt.key-secret=key"
    luks = f"encrypt.format=luks,encrypt.iter-time=10,{key}"
    yield Variant("qcow2-luks", "qcow2", luks, secret=True)
    yield Variant("qcow2-aes", "qcow2", f"encrypt.format=aes,{key}", secret=True)
    for compat in ("0.10", "1.1"):
        snapshots = tuple(f"snapshot -c snapshot-{n} {{}}" for n in range(3))
        name = f"qcow2-{compat}-snapshots"
        yield Variant(name, "qcow2", f"compat={compat}", content=True, then=snapshots)
    yield Variant(
        "qcow2-snapshot-then-resized",
        "qcow2",
        then=("snapshot -c before {}", "resize -q {} +64K"),
    )
    yield Variant(
        "qcow2-bitmaps",
        "qcow2",
        then=(
            "bitmap --add {} first",
            "bitmap --add -g 4k {} second",
            "bitmap --disable {} second",
        ),
    )


def _vmdk() -> Iterator[Variant]:
    flat = ("monolithicFlat", "twoGbMaxExtentFlat")
    sparse = ("monolithicSparse", "twoGbMaxExtentSparse", "streamOptimized")
    adapters = ("ide", "buslogic", "lsilogic", "legacyESX")
    for kind, adapter, compat in product(flat + sparse, adapters, ("off", "on")):
        yield Variant(
            f"vmdk-{kind}-{adapter}{'-compat6' * (compat == 'on')}",
            "vmdk",
            f"subformat={kind},adapter_type={adapter},compat6={compat}",
        )
    for kind in flat + sparse:
        yield Variant(f"vmdk-{kind}-5G", "vmdk", f"subformat={kind}", size=5 * GIB)
        yield Variant(f"vmdk-{kind}-content", "vmdk", f"subformat={kind}", content=True)
    for kind in ("monolithicSparse", "twoGbMaxExtentSparse"):
        yield Variant(f"vmdk-{kind}-zeroed", "vmdk", f"subformat={kind},zeroed_grain=on")
    # Of a backing file qemu makes these two only.
    for kind in ("monolithicSparse", "streamOptimized"):
        yield Variant(f"vmdk-{kind}-over", "vmdk", f"subformat={kind}", backing_format="vmdk")
    yield Variant("vmdk-hwversion", "vmdk", "hwversion=14")
    yield Variant("vmdk-tools", "vmdk", "toolsversion=2147483647")


def _vhd() -> Iterator[Variant]:
    sizes = (512, MIB, 10 * MIB + 512, 3 * GIB, 127 * GIB, 130 * GIB, 2040 * GIB)
    for kind, force, size in product(("dynamic", "fixed"), ("off", "on"), sizes):
        if kind == "fixed" and size > 130 * GIB:
            continue
        if force == "off" and size > 127 * GIB:
            continue  # beyond what a geometry can say
        name = f"vhd-{kind}-{size}{'-forced' * (force == 'on')}"
        yield Variant(name, "vpc", f"subformat={kind},force_size={force}", size=size)
    for kind in ("dynamic", "fixed"):
        yield Variant(f"vhd-{kind}-content", "vpc", f"subformat={kind}", content=True)


def _vhdx() -> Iterator[Variant]:
    for kind in ("dynamic", "fixed"):
        for block in (1, 2, 8, 32, 256):
            yield Variant(
                f"vhdx-{kind}-block-{block}M", "vhdx", f"subformat={kind},block_size={block}M"
            )
        yield Variant(f"vhdx-{kind}-content", "vhdx", f"subformat={kind}", content=True)
    for log in (1, 2, 16, 128):
        yield Variant(f"vhdx-log-{log}M", "vhdx", f"log_size={log}M")
    for zero in ("on", "off"):
        yield Variant(f"vhdx-zero-{zero}", "vhdx", f"block_state_zero={zero}", content=True)
    for size in (5 * MIB, 3 * GIB, 2 << 40):
        yield Variant(f"vhdx-size-{size}", "vhdx", size=size)


def _vdi() -> Iterator[Variant]:
    for static, content in product(("on", "off"), (False, True)):
        name = f"vdi-static-{static}{'-content' * content}"
        yield Variant(name, "vdi", f"static={static}", content=content)
    for size in (512, MIB + 512, 3 * GIB, 1 << 40):
        yield Variant(f"vdi-size-{size}", "vdi", size=size)


def _qed() -> Iterator[Variant]:
    for cluster in (4 * KIB, 64 * KIB, MIB):
        for table in (2, 4, 16):
            options = f"cluster_size={cluster},table_size={table}"
            yield Variant(f"qed-cluster-{cluster}-table-{table}", "qed", options)
    for backing in ("raw", "qed", "qcow2"):
        yield Variant(f"qed-over-{backing}", "qed", backing_format=backing)
    yield Variant("qed-content", "qed", content=True)


def _others() -> Iterator[Variant]:
    for cluster in (64 * KIB, MIB, 4 * MIB):
        yield Variant(f"parallels-{cluster}", "parallels", f"cluster_size={cluster}", size=9 * MIB)
    yield Variant("parallels-content", "parallels", content=True)
    yield Variant("qcow", "qcow")
    yield Variant("qcow-content", "qcow", content=True)
    yield Variant("qcow-over-raw", "qcow", backing_format="raw")
    yield Variant("qcow-aes", "qcow", "encrypt.format=aes,encrypt.key-secret=key", secret=True)
    luks = "key-secret=key,iter-time=10"
    yield Variant("luks", "luks", luks, secret=True)
    options = f"{luks},cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256"
    yield Variant("luks-aes-cbc-essiv", "luks", options, secret=True)


def _compressed() -> Iterator[Variant]:
    for name, options in (("zlib", ""), ("zstd", "compression_type=zstd"), ("v2", "compat=0.10")):
        yield Variant(f"qcow2-{name}-compressed", "qcow2", options, content=True, compressed=True)
    options = "subformat=streamOptimized"
    yield Variant("vmdk-compressed", "vmdk", options, content=True, compressed=True)


VARIANTS: Mapping[str, Variant] = {
    variant.id: variant
    for group in (_raw, _qcow2, _vmdk, _vhd, _vhdx, _vdi, _qed, _others, _compressed)
    for variant in group()
}
