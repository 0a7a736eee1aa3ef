"""Processor, memory, firmware and settings of a machine as parts of an OVF's hardware section.

VirtualBox reads VMware's dialect too (it ignores the family ``vmx-19``), while VMware refuses
``virtualbox-2.2``; so there is one dialect only.  The order of the items is fixed: processor,
memory, each controller with its drives, cards, ports, the rest; ids count up from 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.machine import vmware
from vmport_formats.machine.ledger import Impact, Loss
from vmport_formats.machine.model import FirmwareKind, TpmModel
from vmport_formats.machine.ovf import vocabulary
from vmport_formats.machine.ovf.cards import add_nics, add_ports, add_sound, add_usb, add_video
from vmport_formats.machine.ovf.drives import add_drives
from vmport_formats.machine.ovf.markup import Item
from vmport_formats.machine.ovf.section import Hardware
from vmport_formats.machine.ovf.vocabulary import ResourceType
from vmport_formats.units import MIB, format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmport_formats.machine.ledger import Books
    from vmport_formats.machine.model import Cpu, Firmware, Machine, SmbiosValue
    from vmport_formats.machine.vmware import DrivePlan

MEMORY_STEP: Final = 4
"""VMware wants a multiple of this many MiB."""

_DEFAULT_MEMORY: Final = 1024
"""MiB, for a machine that states none."""


def describe_hardware(
    machine: Machine, books: Books, plan: DrivePlan, resources: Mapping[int, str]
) -> Hardware:
    """All items and settings of `machine`; what becomes of each value goes into `books`.

    `resources` has, by index into the machine's disks, the ``HostResource`` of each hard disk.
    """
    hardware = Hardware()
    _processor(machine, books, hardware)
    _memory(machine, books, hardware)
    add_drives(machine, books, hardware, plan, resources)
    add_nics(machine, books, hardware)
    add_usb(machine, books, hardware)
    add_ports(machine, books, hardware)
    add_video(machine, books, hardware)
    add_sound(machine, books, hardware)
    _firmware(machine, books, hardware)
    _tpm(machine, books, hardware)
    _vsock(machine, books, hardware)
    _features(machine, books, hardware)
    _numa(machine, books, hardware)
    _identity(machine, books, hardware)
    vmware.account_for_implied(machine, books)
    return hardware


# --- Processor and memory -----------------------------------------------------------------------


def _processor(machine: Machine, books: Books, hardware: Hardware) -> None:
    cpu = machine.cpu
    count = (cpu and (cpu.online or cpu.count)) or 1
    cores = None
    if cpu is not None and (cpu.sockets or cpu.cores):
        per_socket = [level or 1 for level in (cpu.dies, cpu.clusters, cpu.cores, cpu.threads)]
        cores = per_socket[0] * per_socket[1] * per_socket[2] * per_socket[3]
    fits = cores is None or count % cores == 0
    item = hardware.add(
        Item(
            ResourceType.CPU,
            f"{count} virtual CPU{'s' if count > 1 else ''}",
            allocation_units="hertz * 10^6",
            description="Number of virtual CPUs",
            virtual_quantity=count,
            cores_per_socket=cores if fits else None,
        )
    )
    if cpu is None or (cpu.online or cpu.count) is None:
        books.defaulted(
            place=item.place, after="1", why="the source does not say how many processors it has"
        )
    if cpu is None:
        return
    if cpu.online is not None and cpu.count is not None and cpu.count != cpu.online:
        hardware.configs["cpuHotAddEnabled"] = "true"
        books.adapted(
            "cpu.count",
            place="Config cpuHotAddEnabled",
            after=f"{count} at start, more can be plugged in",
            why="OVF states how many processors there are at start",
            action="when the machine runs, raise the number of its processors",
            impact=Impact.MINOR,
        )
        books.kept("cpu.online", place=item.place, after=str(count))
    else:
        books.kept("cpu.online", "cpu.count", place=item.place, after=str(count))
    place = f"{item.place}/CoresPerSocket"
    levels = ("cpu.sockets", "cpu.dies", "cpu.clusters", "cpu.cores", "cpu.threads")
    if cores is None or not fits:
        why = f"{count} processors do not divide into sockets of {cores}"
        books.dropped(*levels, loss=Loss(why, "each processor is a socket", impact=Impact.MINOR))
    elif (cpu.threads or 1) > 1:
        books.adapted(
            *levels,
            place=place,
            before=_topology(cpu),
            after=f"{count // cores} x {cores} cores",
            why="VMware shows threads as cores",
            effect="the guest takes two threads of a core for two cores",
        )
    else:
        books.kept(*levels, place=place, after=str(cores))
    for name, stated in (("hot_add", cpu.hot_add), ("hot_remove", cpu.hot_remove)):
        if stated is not None:
            key = "cpuHotAddEnabled" if name == "hot_add" else "cpuHotRemoveEnabled"
            hardware.configs.setdefault(key, str(stated).lower())
            books.kept(f"cpu.{name}", place=f"Config {key}", after=hardware.configs[key])


def _topology(cpu: Cpu) -> str:
    """The stated levels in words: ``2 sockets, 8 cores, 2 threads``."""
    levels = ("sockets", "dies", "clusters", "cores", "threads")
    stated = [(level, getattr(cpu, level)) for level in levels]
    return ", ".join(f"{count} {level}" for level, count in stated if (count or 1) > 1)


def _memory(machine: Machine, books: Books, hardware: Hardware) -> None:
    memory = machine.memory
    size = None if memory is None else memory.size
    mebibytes = _DEFAULT_MEMORY
    if size is not None:
        mebibytes = max(-(-size // (MEMORY_STEP * MIB)) * MEMORY_STEP, MEMORY_STEP)
    locked = memory is not None and memory.locked is True
    item = hardware.add(
        Item(
            ResourceType.MEMORY,
            f"{mebibytes} MB of memory",
            allocation_units=vocabulary.MEBIBYTE,
            description="Memory size",
            reservation=mebibytes if locked else None,
            virtual_quantity=mebibytes,
        )
    )
    if size is None:
        books.defaulted(
            place=item.place,
            after=f"{mebibytes} MB",
            why="the source does not say how much memory it has",
            action="set the memory that the guest needs",
            impact=Impact.MINOR,
        )
    elif size == mebibytes * MIB:
        books.kept("memory.size", place=item.place, after=f"{mebibytes} MB")
    else:
        books.adapted(
            "memory.size",
            place=item.place,
            before=f"{size} bytes",
            after=f"{mebibytes} MB",
            why=f"VMware wants a multiple of {MEMORY_STEP} MB",
        )
    for index, module in enumerate(machine.memory_modules):
        if module.model == "dimm":
            books.adapted(
                f"memory_modules[{index}]",
                place=item.place,
                before="a plugged-in module",
                after="part of the main memory",
                why="VMware has no plugged-in modules in a machine that is off",
            )
    if memory is None:
        return
    if memory.current is not None and memory.current == size:
        books.kept("memory.current", place=item.place, after=f"{mebibytes} MB")
    if locked:
        books.adapted(
            "memory.locked",
            place=f"{item.place}/Reservation",
            after=f"{mebibytes} MB reserved",
            why="VMware keeps memory from being swapped out by reserving it",
        )
    else:
        books.kept("memory.locked", place=f"{item.place}/Reservation", after="none reserved")
    grows = memory.maximum is not None and memory.maximum > (memory.size or 0)
    if memory.hot_add is not None or grows:
        hot_add = memory.hot_add if memory.hot_add is not None else True
        hardware.configs["memoryHotAddEnabled"] = str(hot_add).lower()
        books.kept("memory.hot_add", place="Config memoryHotAddEnabled", after=str(hot_add).lower())
        if grows:
            books.adapted(
                "memory.maximum",
                place="Config memoryHotAddEnabled",
                before=format_size(memory.maximum or 0),
                after="memory can be added",
                why="VMware sets the limit itself",
            )
    else:
        books.kept("memory.maximum", place=item.place)


def _numa(machine: Machine, books: Books, hardware: Hardware) -> None:
    counts = {_cpus_in(cell.cpus) for cell in machine.numa}
    sizes = {cell.memory for cell in machine.numa}
    if len(machine.numa) < 2 or len(counts) != 1 or None in counts:
        return
    hardware.extra["numa.vcpu.maxPerVirtualNode"] = str(counts.pop())
    for index in range(len(machine.numa)):
        for part in ("id", "cpus", "memory"):
            even = part != "memory" or len(sizes) == 1
            books.adapted(
                f"numa[{index}].{part}",
                place="ExtraConfig numa.vcpu.maxPerVirtualNode",
                before=f"{len(machine.numa)} cells",
                after=f"cells of {hardware.extra['numa.vcpu.maxPerVirtualNode']} processors",
                why="VMware is told the size of a cell and makes as many as it takes"
                + ("" if even else "; it divides memory evenly"),
                impact=Impact.NONE if even else Impact.MINOR,
            )


def _cpus_in(cpus: str | None) -> int | None:
    """How many processors a list such as ``0-3,8`` names."""
    if cpus is None:
        return None
    total = 0
    for part in cpus.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            return None
        total += int(last or first) - int(first) + 1
    return total if total > 0 else None


# --- Firmware and settings ----------------------------------------------------------------------


def _firmware(machine: Machine, books: Books, hardware: Hardware) -> None:
    firmware = machine.firmware
    kind = None if firmware is None else firmware.kind
    uefi = kind is FirmwareKind.UEFI
    hardware.configs["firmware"] = "efi" if uefi else "bios"
    place = "Config firmware"
    if kind in (FirmwareKind.UEFI, FirmwareKind.BIOS):
        books.kept("firmware.kind", place=place, after=hardware.configs["firmware"])
    elif kind is None:
        why = "the source does not say which firmware starts it"
        books.defaulted(place=place, after="bios", why=why)
    else:
        books.adapted(
            "firmware.kind",
            place=place,
            after="bios",
            why="VMware has BIOS and UEFI",
            effect="the guest starts only from a disk with a boot loader for BIOS",
            action="install one in the guest",
            impact=Impact.MAJOR,
        )
    if firmware is not None:
        _secure_boot(firmware, books, hardware, uefi=uefi)
    if firmware is not None and firmware.enrolled_keys is False:
        books.dropped(
            "firmware.enrolled_keys",
            loss=Loss(
                "VMware's UEFI always has Microsoft's keys",
                "secure boot, if it is on, starts what they signed and nothing else",
                impact=Impact.MINOR if firmware.secure_boot else Impact.NONE,
            ),
        )
    if machine.boot is not None and machine.boot.delay_ms is not None:
        hardware.configs["bootOptions.bootDelay"] = str(machine.boot.delay_ms)
        books.kept("boot.delay_ms", place="Config bootOptions.bootDelay")


def _secure_boot(firmware: Firmware, books: Books, hardware: Hardware, *, uefi: bool) -> None:
    stated, capable = firmware.secure_boot, firmware.secure_boot_capable
    paths = ("firmware.secure_boot", "firmware.secure_boot_capable")
    key = "bootOptions.efiSecureBootEnabled"
    if not uefi:
        if stated:
            why = "secure boot needs UEFI"
            loss = Loss(why, "the guest starts without it", impact=Impact.MAJOR)
            books.dropped("firmware.secure_boot", loss=loss)
        elif stated is not None:
            books.kept("firmware.secure_boot", place="Config firmware", after="bios has none")
        return
    if stated is not None:
        hardware.configs[key] = str(stated).lower()
        books.kept(*paths, place=f"Config {key}", after=hardware.configs[key])
    elif capable is not None:
        hardware.configs[key] = "false"
        if not capable:
            books.kept(*paths, place=f"Config {key}", after="false")
            return
        books.adapted(
            "firmware.secure_boot_capable",
            place=f"Config {key}",
            before="possible",
            after="false",
            why="the source says that the firmware can do secure boot; whether it does is in the "
            "NVRAM, which does not move",
            effect="the guest starts without secure boot",
            action=f"if it was on (mokutil --sb-state, or msinfo32), set {key} to true",
            impact=Impact.MINOR,
        )


def _tpm(machine: Machine, books: Books, hardware: Hardware) -> None:
    tpm = machine.tpm
    if tpm is None:
        return
    uefi = machine.firmware is not None and machine.firmware.kind is FirmwareKind.UEFI
    if not uefi or vmware.hardware_version(machine) < vmware.TPM_HARDWARE:
        loss = Loss(
            f"VMware's TPM needs UEFI and virtual hardware {vmware.TPM_HARDWARE}",
            "the guest has no TPM; what it sealed (BitLocker, LUKS) does not open",
            "have the recovery keys at hand",
            Impact.MAJOR,
        )
        books.dropped("tpm", loss=loss)
        return
    item = hardware.add(
        Item(
            ResourceType.TPM,
            "Virtual TPM",
            automatic_allocation=False,
            subtype=vocabulary.TPM_SUBTYPE,
            required=False,
        )
    )
    books.adapted(
        "tpm" if not books.is_stated("tpm.backend") else "tpm.backend",
        place=item.place,
        before="present",
        after="a new, empty TPM",
        why="a descriptor does not hold what is in a TPM",
        effect="what the guest sealed in it (BitLocker, LUKS) does not open",
        action="have the recovery keys at hand; the new host needs a key provider",
        impact=Impact.MAJOR,
    )
    if tpm.model is TpmModel.CRB:
        books.kept("tpm.model", place=item.place)
    else:
        why = "VMware's TPM has the CRB interface"
        books.adapted("tpm.model", place=item.place, after="tpm-crb", why=why)
    if tpm.version in (None, "2.0"):
        books.kept("tpm.version", place=item.place, after="2.0")
    else:
        books.adapted(
            "tpm.version",
            place=item.place,
            after="2.0",
            why="VMware's TPM is a 2.0",
            effect="software that speaks to a TPM 1.2 does not work",
            impact=Impact.MAJOR,
        )


def _vsock(machine: Machine, books: Books, hardware: Hardware) -> None:
    if machine.vsock is None:
        return
    item = hardware.add(
        Item(
            ResourceType.OTHER,
            "VMCI device",
            automatic_allocation=False,
            subtype=vocabulary.VMCI_SUBTYPE,
            required=False,
        )
    )
    books.adapted(
        "vsock",
        place=item.place,
        before="vsock",
        after="VMCI",
        why="VMware's socket between guest and host is VMCI",
        effect="the guest's address (CID) is another",
        impact=Impact.MINOR,
    )


def _features(machine: Machine, books: Books, hardware: Hardware) -> None:
    features = machine.features
    if features is not None:
        for name, stated, key in (
            ("nested", features.nested, "nestedHVEnabled"),
            ("pmu", features.pmu, "vPMCEnabled"),
        ):
            if stated is not None:
                hardware.configs[key] = str(stated).lower()
                books.kept(f"features.{name}", place=f"Config {key}", after=hardware.configs[key])
        for name in ("acpi", "apic", "pae"):
            if getattr(features, name) is False:
                why = "every VMware machine has it"
                loss = Loss(why, "a guest that cannot bear it may not start", impact=Impact.MINOR)
                books.dropped(f"features.{name}", loss=loss)
    if machine.iommu is not None and hardware.configs["firmware"] == "efi":
        hardware.configs["flags.vvtdEnabled"] = "true"
        books.adapted(
            "iommu",
            place="Config flags.vvtdEnabled",
            before="present",
            after="true",
            why="VMware has an IOMMU of Intel's kind",
        )


def _identity(machine: Machine, books: Books, hardware: Hardware) -> None:
    if machine.uuid is not None:
        hardware.configs["uuid"] = str(machine.uuid)
        books.adapted(
            "uuid",
            place="Config uuid",
            after=str(machine.uuid),
            why="an importer may give the machine a UUID of its own, and VMware's SMBIOS shows the "
            "first three groups with their bytes reversed",
            effect="a licence or an agent that is bound to it may not know the machine again",
            action="compare `dmidecode -s system-uuid` before and after the move",
            impact=Impact.MINOR,
        )
    if machine.smbios_mode == "host":
        hardware.extra["SMBIOS.reflectHost"] = "TRUE"
        books.adapted(
            "smbios_mode",
            place="ExtraConfig SMBIOS.reflectHost",
            after="TRUE",
            why="that is VMware's word for it",
        )
    for index, value in enumerate(machine.smbios):
        if _is_uuid(machine, value):
            books.kept(f"smbios[{index}]", place="Config uuid")


def _is_uuid(machine: Machine, value: SmbiosValue) -> bool:
    """Whether an SMBIOS value says the machine's UUID once more."""
    return (
        value.block == "system"
        and value.name == "uuid"
        and machine.uuid is not None
        and value.value.lower() == str(machine.uuid)
    )
