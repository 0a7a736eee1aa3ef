"""Rules for what a VMX file says about itself and the whole machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.model import Found, Layer, Severity
from vmport_converters.machine.rules.spelling import nearest
from vmport_converters.machine.rules.targets import wrong_dialect
from vmport_converters.machine.rules.vmware import HARDWARE, HOSTED_ONLY, NEWEST, limits
from vmport_converters.machine.rules.vmx.view import (
    ALL,
    ESXI,
    RULES,
    as_bool,
    as_int,
    at_key,
    at_top,
    at_value,
)
from vmport_formats.machine.dialect import Dialect
from vmport_formats.machine.guest_os import vmware_guest
from vmport_formats.machine.guest_os_table import VMWARE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_converters.machine.rules.targets import Target
    from vmport_converters.machine.rules.vmx.view import VmxView

_GUESTS: Final = frozenset(
    name
    for row in VMWARE
    for name in (row.id_32 and row.stem, row.id_64 and f"{row.stem}-64")
    if name
)
_UUID: Final = re.compile(r"[0-9a-f]{2}([ -]?[0-9a-f]{2}){15}", re.IGNORECASE)
_UUID_KEYS: Final = ("uuid.bios", "uuid.location", "vc.uuid")
_ORDER_WORDS: Final = frozenset({"hdd", "cdrom", "floppy", "allow", "deny", "any", "usb"})
_BOOT_WORD: Final = re.compile(
    r"(?:allow:|deny:)?(?:hdd|cdrom|floppy|usb|any|disk|net"
    r"|ethernet\d+|(?:scsi|sata|ide|nvme)\d+(?::\d+)?|efishell)",
    re.IGNORECASE,
)


@RULES.rule("syntax", Severity.ERROR, affects=ALL, layer=Layer.SYNTAX)
def syntax(vmx: VmxView) -> Iterator[Found]:
    """A line is neither ``key = "value"`` nor a comment.

    VMware products refuse to open a file with one broken line in it: "syntax error".
    """
    for fault in vmx.document.faults:
        if fault.code == "vmx.syntax":
            yield Found(fault.position, fault.key or "", fault.problem, fault.hint)


@RULES.rule("encoding", Severity.ERROR, affects=ALL, layer=Layer.SYNTAX)
def encoding(vmx: VmxView) -> Iterator[Found]:
    """The text is not in the encoding that ``.encoding`` names, or that is no known encoding.

    VMware products refuse the file, or show names with wrong letters and do not find the disks
    that these name.
    """
    for fault in vmx.document.faults:
        if fault.code == "vmx.encoding":
            yield Found(fault.position, fault.key or "", fault.problem, fault.hint)


@RULES.rule("duplicate-key", Severity.ERROR, affects=ALL, layer=Layer.SYNTAX)
def duplicate_key(vmx: VmxView) -> Iterator[Found]:
    """A key is set twice; upper and lower case make no difference.

    VMware products refuse the file: "variable already defined".  Other programs take the first
    value or the last.  It is a warning when both values are the same.
    """
    for fault in vmx.document.faults:
        if fault.first is None or fault.entry is None:
            continue
        same = fault.first.value == fault.entry.value
        yield at_key(
            fault.entry,
            f"{fault.problem}, with {'the same' if same else 'another'} value",
            fault.hint,
            severity=Severity.WARNING if same else None,
        )


@RULES.rule("encrypted", Severity.WARNING, affects="every program but VMware's")
def encrypted(vmx: VmxView) -> Iterator[Found]:
    """The settings are encrypted.

    Only VMware's own products can read them, with the password.  Nothing else can be checked,
    and no program can translate the machine.
    """
    entry = vmx.document.get("encryption.data")
    if entry is not None:
        yield at_key(
            entry,
            "most settings of this machine are hidden in this encrypted block",
            "remove the encryption in Workstation or Fusion (VM settings, Access Control)",
        )


@RULES.rule("config-version", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def config_version(vmx: VmxView) -> Iterator[Found]:
    """``config.version`` is missing or not 8.

    Without it VMware products say "cannot read the virtual machine configuration file"; libvirt
    refuses any other value than 8.  A lower number, of a product from before 2005, is a warning.
    """
    entry = vmx.document.get("config.version")
    if entry is None:
        if vmx.lacks("config.version"):
            yield at_top("config.version", "config.version is missing", 'add config.version = "8"')
        return
    number = as_int(entry.value)
    if number != 8:
        old = number is not None and 1 <= number < 8
        yield at_value(
            entry,
            "config.version is the version of the file format, which is 8",
            'write config.version = "8"',
            expected="8",
            affects="libvirt; others may convert the machine" if old else None,
            severity=Severity.WARNING if old else None,
        )


@RULES.rule("hardware-version", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def hardware_version(vmx: VmxView) -> Iterator[Found]:
    """``virtualHW.version`` is missing, no number, or a version that was never released.

    There is no version 5.  A version newer than any that vmport knows is a warning.
    """
    entry = vmx.document.get("virtualHW.version")
    if entry is None:
        if vmx.lacks("virtualHW.version"):
            yield at_top(
                "virtualHW.version",
                "virtualHW.version is missing",
                'add virtualHW.version = "17" (ESXi 7.0 and later, Workstation 16 and later)',
            )
        return
    number = as_int(entry.value)
    if number in HARDWARE:
        return
    newer = number is not None and NEWEST < number < 100
    yield at_value(
        entry,
        f"hardware version {entry.value} is newer than the newest known, {NEWEST}"
        if newer
        else f"there is no hardware version {entry.value!r}",
        "take a version that the product runs; see the table of VMware hardware versions",
        expected=f"3, 4, 6 to {NEWEST}",
        severity=Severity.WARNING if newer else None,
    )


@RULES.rule("hardware-hosted-only", Severity.NOTE, affects=ESXI)
def hardware_hosted_only(vmx: VmxView) -> Iterator[Found]:
    """The hardware version exists in Workstation and Fusion only: 6, 12 or 16.

    ESXi does not run it; the machine has to be changed before it can move there.
    """
    entry = vmx.document.get("virtualHW.version")
    if entry is not None and vmx.hardware in HOSTED_ONLY:
        yield at_value(
            entry,
            f"hardware version {vmx.hardware} runs in Workstation and Fusion only",
            f"take {vmx.hardware - 1 if vmx.hardware != 6 else 4} or {vmx.hardware + 1}",
            expected="a version that ESXi has too",
        )


@RULES.target_rule("target-dialect", Severity.ERROR, affects="the named target")
def target_dialect(_vmx: VmxView, target: Target) -> Iterator[Found]:
    """The target does not read VMX files.

    The descriptor has to be translated first.
    """
    yield from wrong_dialect(Dialect.VMX, target)


@RULES.target_rule("target-hardware", Severity.ERROR, affects="the named target")
def target_hardware(vmx: VmxView, target: Target) -> Iterator[Found]:
    """The target does not run this hardware version.

    A host runs the versions of its own release and older ones; a newer one is refused.
    """
    entry = vmx.document.get("virtualHW.version")
    if target.hardware is None or entry is None or vmx.hardware not in HARDWARE:
        return
    if vmx.hardware not in target.hardware:
        newest = max(target.hardware)
        row = HARDWARE[vmx.hardware]
        yield at_value(
            entry,
            f"{target.label} does not run hardware version {vmx.hardware}, which came with "
            f"{row.since}",
            f'write virtualHW.version = "{newest}", if the machine needs nothing newer',
            expected=f"at most {newest}" if vmx.hardware > newest else f"such as {newest}",
            affects=target.label,
        )


@RULES.rule("memory-missing", Severity.WARNING, affects=ALL)
def memory_missing(vmx: VmxView) -> Iterator[Found]:
    """``memsize`` is missing.

    VMware products then give the machine 32 MB, with which no current system boots.
    """
    if vmx.lacks("memsize"):
        yield at_top(
            "memsize",
            "memsize is missing: the machine gets 32 MB",
            'add memsize = "2048" (in MB, a multiple of 4)',
        )


@RULES.rule("memory-size", Severity.ERROR, affects=ALL)
def memory_size(vmx: VmxView) -> Iterator[Found]:
    """``memsize`` is no number, no multiple of 4, or more than the hardware version allows.

    The machine does not power on.
    """
    entry = vmx.document.get("memsize")
    if entry is None:
        return
    size = as_int(entry.value)
    most = None if vmx.hardware is None else limits(vmx.hardware).max_memory
    if size is None or size < 4:
        yield at_value(
            entry,
            "memsize is the memory in MB, as a number",
            'write the size in MB alone, as in memsize = "2048"',
            expected="a multiple of 4",
        )
    elif size % 4:
        yield at_value(
            entry,
            f"memsize is {size}; it must be a multiple of 4",
            f'write memsize = "{size + 4 - size % 4}"',
            expected="a multiple of 4",
        )
    elif most is not None and size > most:
        yield at_value(
            entry,
            f"hardware version {vmx.hardware} has at most {most} MB of memory",
            "take less memory, or a newer virtualHW.version",
            expected=f"at most {most}",
        )


@RULES.rule("cpu-count", Severity.ERROR, affects=ALL)
def cpu_count(vmx: VmxView) -> Iterator[Found]:
    """``numvcpus`` is no number, or more than the hardware version allows.

    The machine does not power on.
    """
    entry = vmx.document.get("numvcpus")
    if entry is None:
        return
    count = as_int(entry.value)
    most = None if vmx.hardware is None else limits(vmx.hardware).max_cpus
    if count is None or count < 1:
        yield at_value(
            entry, "numvcpus is the number of virtual CPUs", 'write numvcpus = "1" or more'
        )
    elif most is not None and count > most:
        yield at_value(
            entry,
            f"hardware version {vmx.hardware} has at most {most} virtual CPUs",
            "take fewer CPUs, or a newer virtualHW.version",
            expected=f"1 to {most}",
        )


@RULES.rule("cores-per-socket", Severity.ERROR, affects=ALL)
def cores_per_socket(vmx: VmxView) -> Iterator[Found]:
    """``cpuid.coresPerSocket`` does not divide ``numvcpus``.

    The machine does not power on: "the number of virtual CPUs must be a multiple of cores per
    socket".
    """
    entry = vmx.document.get("cpuid.coresPerSocket")
    if entry is None:
        return
    cores = as_int(entry.value)
    stated = vmx.document.value("numvcpus")
    count = 1 if stated is None else as_int(stated)
    if cores is None or cores < 0:
        yield at_value(
            entry,
            "cpuid.coresPerSocket is the number of cores of each socket",
            "write a number that divides numvcpus",
        )
    elif count is not None and count > 0 and cores and count % cores:  # 0: the host decides
        yield at_value(
            entry,
            f"{count} virtual CPUs cannot be put into sockets of {cores} cores",
            "take a number that divides numvcpus",
            expected=f"a divisor of {count}",
        )


@RULES.rule("guest-os-missing", Severity.WARNING, affects=ALL)
def guest_os_missing(vmx: VmxView) -> Iterator[Found]:
    """``guestOS`` is missing.

    VMware products complain that the file "does not specify a guest operating system", and choose
    devices and limits for an unknown 32-bit one.
    """
    if vmx.lacks("guestOS"):
        yield at_top(
            "guestOS",
            "guestOS is missing",
            'add guestOS = "other-64", or the name of the system inside',
        )


@RULES.rule("guest-os-unknown", Severity.WARNING, affects=ALL)
def guest_os_unknown(vmx: VmxView) -> Iterator[Found]:
    """``guestOS`` is no name that VMware has for a system.

    A product that does not know the name takes the guest for an unknown 32-bit one, and may
    refuse 64-bit code, more than 4 GB of memory or newer devices.
    """
    entry = vmx.document.get("guestOS")
    if entry is None or vmware_guest(entry.value) or entry.value.lower().startswith("arm-"):
        return
    meant = nearest(entry.value, _GUESTS)
    yield at_value(
        entry,
        f"VMware has no guest system called {entry.value!r}"
        + (f"; did you mean {meant}?" if meant else ""),
        f'write guestOS = "{meant or "other-64"}"',
        expected=meant,
    )


@RULES.rule("boolean", Severity.WARNING, affects=ALL)
def boolean(vmx: VmxView) -> Iterator[Found]:
    """A switch is set to something else than ``TRUE`` or ``FALSE``.

    VMware products warn when the machine starts and take the default, which for ``present`` is
    ``FALSE``.
    """
    for entry in vmx.document:
        if entry.folded.endswith((".present", ".startconnected")) and as_bool(entry.value) is None:
            yield at_value(
                entry,
                f"{entry.key} is a switch; {entry.value!r} is neither TRUE nor FALSE",
                f'write {entry.key} = "TRUE" or "FALSE"',
                expected="TRUE or FALSE",
            )


@RULES.rule("uuid", Severity.WARNING, affects=ALL)
def uuid(vmx: VmxView) -> Iterator[Found]:
    """A UUID is not 16 bytes in hexadecimal.

    VMware products make a new one, and what hangs on the old one (licences, backups, the MAC
    address that is derived from it) changes.
    """
    for key in _UUID_KEYS:
        entry = vmx.document.get(key)
        if entry is not None and entry.value and not _UUID.fullmatch(entry.value.strip()):
            yield at_value(
                entry,
                f"{entry.key} is not a UUID",
                "write 16 bytes, as in 56 4d 09 6b b0 ff 56 dd-bd 74 a4 03 97 2b f3 37",
                expected="16 bytes in hexadecimal",
            )


@RULES.rule("genid-half", Severity.WARNING, affects=ALL)
def genid_half(vmx: VmxView) -> Iterator[Found]:
    """Only one of ``vm.genid`` and ``vm.genidX`` is set.

    They are the two halves of the VM generation id, by which a Windows domain controller knows
    that it was copied or rolled back; with one half the id is lost.
    """
    for key, other in (("vm.genid", "vm.genidX"), ("vm.genidX", "vm.genid")):
        entry = vmx.document.get(key)
        if entry is not None and other not in vmx.document:
            yield at_key(
                entry,
                f"{entry.key} is one half of the generation id; {other} is missing",
                f"copy {other} from the original too, or remove {entry.key}",
            )


@RULES.rule("boot-order", Severity.WARNING, affects=ALL)
def boot_order(vmx: VmxView) -> Iterator[Found]:
    """``bios.bootOrder`` names something that is no boot device.

    The firmware skips the word and may boot from something else.
    """
    entry = vmx.document.get("bios.bootOrder")
    if entry is None:
        return
    for word in re.split(r"[,\s]+", entry.value.strip()):
        if word and not _BOOT_WORD.fullmatch(word):
            meant = nearest(word, _ORDER_WORDS)
            yield at_value(
                entry,
                f"{word!r} is no boot device" + (f"; did you mean {meant}?" if meant else ""),
                "list hdd, cdrom, floppy and ethernet0, in the order wanted",
                expected="hdd, cdrom, floppy, ethernetN",
            )
