"""The virtual hardware of a machine as items of an OVF, in VMware's dialect.

VirtualBox reads that dialect too (it ignores the family ``vmx-19``), while VMware refuses
``virtualbox-2.2``; so there is one dialect only.  The order of the items is fixed: processor,
memory, each controller with its drives, cards, ports, the rest; ids count up from 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vmport_formats.machine import vmware
from vmport_formats.machine.ledger import Impact, Loss
from vmport_formats.machine.model import (
    ControllerKind,
    ControllerModel,
    DiskDevice,
    FirmwareKind,
    NicSourceKind,
    TpmModel,
)
from vmport_formats.machine.ovf import vocabulary
from vmport_formats.machine.ovf.markup import Item
from vmport_formats.machine.ovf.vocabulary import ResourceType
from vmport_formats.units import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmport_formats.machine.ledger import Books
    from vmport_formats.machine.model import Machine, Nic, Port, SmbiosValue
    from vmport_formats.machine.vmware import DrivePlan, PlacedDrive

MEMORY_STEP: Final = 4
"""VMware wants a multiple of this many MiB."""

_DEFAULT_MEMORY: Final = 1024
"""MiB, for a machine that states none."""

_NETWORK: Final = "VM Network"
"""What VMware calls the network of a new host."""


@dataclass(slots=True)
class Hardware:
    """What a hardware section will hold."""

    items: list[Item] = field(default_factory=list)
    configs: dict[str, str] = field(default_factory=dict)
    """``vmw:Config``: settings by their names in the vSphere API."""
    extra: dict[str, str] = field(default_factory=dict)
    """``vmw:ExtraConfig``: keys of a VMX file."""
    networks: dict[str, None] = field(default_factory=dict)
    disks: dict[int, Item] = field(default_factory=dict)
    """By index into the machine's disks."""
    nics: dict[int, Item] = field(default_factory=dict)

    def add(self, item: Item) -> Item:
        """Append `item` and give it the next id."""
        numbered = item.numbered(len(self.items) + 1)
        self.items.append(numbered)
        return numbered


def describe_hardware(
    machine: Machine, books: Books, plan: DrivePlan, resources: Mapping[int, str]
) -> Hardware:
    """All items and settings of `machine`; what becomes of each value goes into `books`.

    `resources` has, by index into the machine's disks, the ``HostResource`` of each hard disk.
    """
    hardware = Hardware()
    _processor(machine, books, hardware)
    _memory(machine, books, hardware)
    _drives(machine, books, hardware, plan, resources)
    _nics(machine, books, hardware)
    _usb(machine, books, hardware)
    _ports(machine, books, hardware)
    _video(machine, books, hardware)
    _sound(machine, books, hardware)
    _firmware(machine, books, hardware)
    _tpm(machine, books, hardware)
    _vsock(machine, books, hardware)
    _features(machine, books, hardware)
    _numa(machine, books, hardware)
    _identity(machine, books, hardware)
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
            after=f"{count // cores} sockets, {cores} cores a socket",
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
                before=f"{memory.maximum} bytes",
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


# --- Drives -------------------------------------------------------------------------------------


def _drives(
    machine: Machine,
    books: Books,
    hardware: Hardware,
    plan: DrivePlan,
    resources: Mapping[int, str],
) -> None:
    parents: dict[tuple[ControllerKind, int], Item] = {}
    for controller in plan.controllers:
        subtype = {
            ControllerKind.SATA: vocabulary.SATA_SUBTYPE,
            ControllerKind.NVME: vocabulary.NVME_SUBTYPE,
        }.get(controller.kind)
        if controller.model is not None:
            subtype = vocabulary.SCSI_SUBTYPES[controller.model]
        name = vocabulary.CONTROLLER_NAMES[controller.kind]
        item = hardware.add(
            Item(
                vocabulary.CONTROLLER_TYPES[controller.kind],
                f"{name} {controller.number}",
                address=str(controller.number),
                description=name,
                subtype=subtype,
            )
        )
        parents[controller.kind, controller.number] = item
        if controller.origin is not None:
            path = f"controllers[{controller.origin}]"
            place = f"{item.place}/ResourceSubType"
            books.kept(f"{path}.kind", place=item.place)
            books.kept(f"{path}.index", place=f"{item.place}/Address")
            books.kept(f"{path}.model", place=place, after=subtype or name)
        for drive in plan.drives:
            if drive.slot[:2] == (controller.kind, controller.number):
                _drive(machine, books, hardware, drive, item, resources)
    for drive in plan.drives:
        if drive.slot.kind is ControllerKind.FLOPPY:
            _drive(machine, books, hardware, drive, None, resources)
    for index, loss in plan.left_out.items():
        books.dropped(f"disks[{index}]", loss=loss)
    for index, stated in enumerate(machine.controllers):
        if stated.kind in vocabulary.CONTROLLER_TYPES:
            why = "no drive hangs on it in the translation"
            books.dropped(f"controllers[{index}]", loss=Loss(why, impact=Impact.NONE))


_KINDS: Final = {
    DiskDevice.DISK: (ResourceType.DISK, "Hard disk"),
    DiskDevice.CDROM: (ResourceType.CD, "CD/DVD drive"),
    DiskDevice.FLOPPY: (ResourceType.FLOPPY, "Floppy drive"),
}


def _drive(
    machine: Machine,
    books: Books,
    hardware: Hardware,
    drive: PlacedDrive,
    parent: Item | None,
    resources: Mapping[int, str],
) -> None:
    disk = machine.disks[drive.index]
    kind, name = _KINDS[drive.device]
    number = sum(item.kind is kind for item in hardware.items) + 1
    hard = drive.device is DiskDevice.DISK
    item = hardware.add(
        Item(
            kind,
            f"{name} {number}",
            address_on_parent=drive.slot.unit,
            # A medium is put in by hand on the new host.
            automatic_allocation=None if hard else False,
            host_resource=resources.get(drive.index),
            parent=None if parent is None else parent.instance_id,
            subtype={
                DiskDevice.CDROM: vocabulary.CD_SUBTYPE,
                DiskDevice.FLOPPY: vocabulary.FLOPPY_SUBTYPE,
            }.get(drive.device),
            required=hard,
        )
    )
    hardware.disks[drive.index] = item
    path = f"disks[{drive.index}]"
    books.kept(f"{path}.device", place=item.place, after=name)
    address = [f"{path}.{part}" for part in ("controller", "channel", "scsi_target", "unit")]
    place = f"{item.place}/AddressOnParent"
    if drive.moved is not None:
        books.adapted(
            f"{path}.bus",
            place=item.place,
            after=str(drive.slot.kind),
            why=drive.moved.why,
            effect=drive.moved.effect,
            action=drive.moved.action,
            impact=drive.moved.impact,
        )
        why = "the drive hangs on another kind of controller"
        books.adapted(*address, place=place, after=str(drive.slot), why=why)
    else:
        books.kept(f"{path}.bus", place=item.place, after=str(drive.slot.kind))
        if drive.readdressed:
            books.adapted(*address, place=place, after=str(drive.slot), why=drive.readdressed)
        else:
            books.kept(*address, place=place, after=str(drive.slot))
    if not hard:
        _medium(machine, books, drive, item)
    if hard and disk.read_only is not None:
        if disk.read_only:
            why = "OVF has no read-only disks"
            effect = "the guest can write to it"
            books.dropped(f"{path}.read_only", loss=Loss(why, effect, impact=Impact.MINOR))
        else:
            books.kept(f"{path}.read_only", place=item.place)
    if disk.rotation_rate is not None:
        key = f"{drive.slot}.virtualSSD"
        if disk.rotation_rate == 1 and hard:
            hardware.extra[key] = "1"
        after = "a solid-state disk" if key in hardware.extra else "a disk that turns"
        why = "VMware knows solid-state disks and others, and no speeds"
        books.adapted(f"{path}.rotation_rate", place=f"ExtraConfig {key}", after=after, why=why)


def _medium(machine: Machine, books: Books, drive: PlacedDrive, item: Item) -> None:
    disk = machine.disks[drive.index]
    path = f"disks[{drive.index}]"
    medium = disk.source.path if disk.source is not None else None
    books.kept(f"{path}.read_only", place=item.place)
    books.kept(f"{path}.connected", place=f"{item.place}/AutomaticAllocation", after="false")
    books.dropped(
        f"{path}.source",
        loss=Loss(
            "the medium in the drive is a file of the old host; a package carries disks only",
            "the drive is empty",
            f"put {medium} into the drive on the new host" if medium else "put the medium in",
            Impact.MINOR,
        ),
    )


# --- Network ------------------------------------------------------------------------------------


def _nics(machine: Machine, books: Books, hardware: Hardware) -> None:
    most = vmware.MAX_NICS if vmware.hardware_version(machine) >= 7 else vmware.MAX_NICS_OLD
    for index, nic in enumerate(machine.nics):
        path = f"nics[{index}]"
        if index >= most:
            loss = Loss(
                f"VMware has at most {most} network cards in a machine",
                "the guest lacks this card",
                "put its network behind one of the other cards, as a VLAN",
                Impact.MAJOR,
            )
            books.dropped(path, loss=loss)
            continue
        model, change = vmware.nic_model(machine, nic)
        network, network_path = _network(nic)
        hardware.networks[network] = None
        item = hardware.add(
            Item(
                ResourceType.NIC,
                f"Network adapter {index + 1}",
                address=nic.mac,
                # As VMware numbers them; 0 to 6 are other devices.
                address_on_parent=7 + index,
                automatic_allocation=nic.connected is not False,
                connection=network,
                description=f"{vocabulary.NIC_SUBTYPES[model]} adapter on {network}",
                subtype=vocabulary.NIC_SUBTYPES[model],
            )
        )
        hardware.nics[index] = item
        place = f"{item.place}/ResourceSubType"
        after = vocabulary.NIC_SUBTYPES[model]
        if change is None:
            books.kept(f"{path}.model", place=place, after=after)
        elif nic.model is None:
            books.defaulted(place=place, after=after, why=change.why, impact=change.impact)
        else:
            books.adapted(
                f"{path}.model",
                place=place,
                after=after,
                why=change.why,
                effect=change.effect,
                action=change.action,
                impact=change.impact,
            )
        books.kept(f"{path}.mac", f"{path}.mac_kind", place=f"{item.place}/Address", after=nic.mac)
        books.kept(f"{path}.connected", place=f"{item.place}/AutomaticAllocation")
        place = f"{item.place}/Connection"
        if network_path is not None:
            books.kept(f"{path}.source.{network_path}", place=place, after=network)
        else:
            books.defaulted(
                place=place, after=network, why="the source does not name the card's network"
            )
        books.adapted(
            f"{path}.source.kind",
            place=place,
            after=f"network {network}",
            why="an importer asks to which of the new host's networks each network goes",
        )


def _network(nic: Nic) -> tuple[str, str | None]:
    """The name of the network that a card is on, and which part of its source says so."""
    source = nic.source
    if source is None:
        return _NETWORK, None
    for part in ("network", "bridge", "device"):
        name = getattr(source, part)
        if name:
            return name, part
    if source.kind is NicSourceKind.NAT:
        return "NAT", "kind"
    return _NETWORK, None


# --- Cards and ports ----------------------------------------------------------------------------


def _usb(machine: Machine, books: Books, hardware: Hardware) -> None:
    wanted: dict[str, list[int]] = {}
    old = vmware.hardware_version(machine) < vmware.USB3_HARDWARE
    for index, controller in enumerate(machine.controllers):
        if controller.kind is not ControllerKind.USB:
            continue
        if controller.model is ControllerModel.NO_USB:
            books.kept(f"controllers[{index}]", place="VirtualHardwareSection", after="no USB")
            continue
        fast = controller.model is ControllerModel.XHCI and not old
        subtype = vocabulary.USB3_SUBTYPE if fast else vocabulary.USB2_SUBTYPE
        wanted.setdefault(subtype, []).append(index)
    for subtype, indices in sorted(wanted.items()):
        second = subtype == vocabulary.USB2_SUBTYPE
        item = hardware.add(
            Item(
                ResourceType.USB,
                "USB controller" if second else "USB 3 controller",
                description="USB controller",
                subtype=subtype,
                configs=(("ehciEnabled", "true"),) if second else (),
                required=False,
            )
        )
        for index in indices:
            same = machine.controllers[index].model in (
                (ControllerModel.EHCI,) if second else (ControllerModel.XHCI,)
            )
            paths = [f"controllers[{index}].{part}" for part in ("kind", "index")]
            books.kept(*paths, place=item.place)
            if same:
                books.kept(f"controllers[{index}].model", place=item.place, after=subtype)
            else:
                books.adapted(
                    f"controllers[{index}].model",
                    place=item.place,
                    after=subtype,
                    why="VMware's USB 2 controller serves older devices too",
                )


def _ports(machine: Machine, books: Books, hardware: Hardware) -> None:
    kinds = (
        ("serials", machine.serials, vmware.MAX_SERIALS, ResourceType.SERIAL),
        ("parallels", machine.parallels, vmware.MAX_PARALLELS, ResourceType.PARALLEL),
    )
    for name, ports, most, kind in kinds:
        serial = kind is ResourceType.SERIAL
        for index, port in enumerate(ports[:most]):
            item = hardware.add(
                Item(
                    kind,
                    f"{'Serial' if serial else 'Parallel'} port {index + 1}",
                    automatic_allocation=False,
                    subtype=vocabulary.SERIAL_SUBTYPE if serial else vocabulary.PARALLEL_SUBTYPE,
                    configs=(("yieldOnPoll", "true"),) if serial else (),
                    required=False,
                )
            )
            _port(books, f"{name}[{index}]", port, item)


def _port(books: Books, path: str, port: Port, item: Item) -> None:
    books.kept(f"{path}.index", place=item.place)
    if port.target in (None, "isa-serial", "isa-parallel"):
        books.kept(f"{path}.target", f"{path}.model", place=item.place)
    else:
        books.adapted(
            f"{path}.target",
            f"{path}.model",
            place=item.place,
            after="a port of the PC",
            why="VMware has the ports of a PC only",
            effect="the guest sees it under another name",
            impact=Impact.MINOR,
        )
    books.adapted(
        path,
        place=item.place,
        after="the port, not connected",
        why="the other end is something of the old host",
        action="connect the port on the new host",
        impact=Impact.MINOR,
    )


def _video(machine: Machine, books: Books, hardware: Hardware) -> None:
    if not machine.videos:
        return
    video = machine.videos[0]
    configs: dict[str, str] = {}
    if video.video_memory is not None:
        configs["videoRamSizeInKB"] = str(-(-video.video_memory // 1024))
    if video.heads is not None:
        configs["numDisplays"] = str(video.heads)
    if video.accelerated_3d is not None:
        configs["enable3DSupport"] = str(video.accelerated_3d).lower()
    item = hardware.add(
        Item(
            ResourceType.GRAPHICS,
            "Video card",
            automatic_allocation=False,
            configs=tuple(sorted(configs.items())),
            required=False,
        )
    )
    for part, key in (
        ("video_memory", "videoRamSizeInKB"),
        ("heads", "numDisplays"),
        ("accelerated_3d", "enable3DSupport"),
    ):
        books.kept(f"videos[0].{part}", place=f"{item.place}/{key}", after=configs.get(key))


def _sound(machine: Machine, books: Books, hardware: Hardware) -> None:
    if not machine.sounds:
        return
    sound = machine.sounds[0]
    model, change = vmware.sound_model(sound)
    if model is None:
        loss = Loss(
            f"VMware has nothing like the sound card {sound.model}",
            "the guest has no sound",
            impact=Impact.MINOR,
        )
        books.dropped("sounds[0]", loss=loss)
        return
    item = hardware.add(
        Item(
            # VMware files sound cards under "other".
            ResourceType.OTHER,
            "Sound card",
            automatic_allocation=False,
            subtype=vocabulary.SOUND_SUBTYPES[model],
            required=False,
        )
    )
    after = vocabulary.SOUND_SUBTYPES[model]
    if change is None:
        books.kept("sounds[0].model", place=item.place, after=after)
    else:
        books.adapted(
            "sounds[0].model" if sound.model is not None else "sounds[0]",
            place=item.place,
            after=after,
            why=change.why,
            effect=change.effect,
            impact=change.impact,
        )
    codecs = Loss("VMware's sound card has its own codec", impact=Impact.NONE)
    books.dropped("sounds[0].codecs", loss=codecs)
    bus = Loss("VMware lays out its own PCI bus", impact=Impact.NONE)
    books.dropped("sounds[0].pci", loss=bus)


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
    secure = None if firmware is None else firmware.secure_boot
    if secure is not None:
        place = "Config bootOptions.efiSecureBootEnabled"
        if uefi:
            hardware.configs["bootOptions.efiSecureBootEnabled"] = str(secure).lower()
            books.kept("firmware.secure_boot", place=place, after=str(secure).lower())
        elif secure:
            loss = Loss(
                "secure boot needs UEFI", "the guest starts without it", impact=Impact.MAJOR
            )
            books.dropped("firmware.secure_boot", loss=loss)
        else:
            books.kept("firmware.secure_boot", place="Config firmware", after="bios has none")
    if firmware is not None and firmware.enrolled_keys is False:
        books.dropped(
            "firmware.enrolled_keys",
            loss=Loss(
                "VMware's UEFI always has Microsoft's keys",
                "secure boot, if it is on, starts what they signed and nothing else",
                impact=Impact.MINOR if secure else Impact.NONE,
            ),
        )
    if machine.boot is not None and machine.boot.delay_ms is not None:
        hardware.configs["bootOptions.bootDelay"] = str(machine.boot.delay_ms)
        books.kept("boot.delay_ms", place="Config bootOptions.bootDelay")


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
        books.kept("uuid", place="Config uuid", after=str(machine.uuid))
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


__all__ = ["Hardware", "describe_hardware"]
