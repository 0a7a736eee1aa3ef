"""Reads a libvirt domain: the platform here, its devices in the modules beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.errors import CorruptInput, UnknownFormat, UnsupportedFeature
from vmport_formats.machine.libvirt import devices, network, platform, processor, storage
from vmport_formats.machine.libvirt.losses import LOSSES, SECRETS
from vmport_formats.machine.libvirt.values import choice, number, uuid
from vmport_formats.machine.model import Accelerator, GenerationId, GuestOs, Machine
from vmport_formats.machine.reading import Recorder
from vmport_formats.xml import parse_xml

if TYPE_CHECKING:
    from uuid import UUID

    from vmport_formats.machine.ledger import Reading
    from vmport_formats.machine.reading import Node

DIALECT: Final = "libvirt XML"

_ACCELERATORS: Final = {
    "kvm": Accelerator.KVM,
    "qemu": Accelerator.TCG,
    "xen": Accelerator.XEN,
    "hvf": Accelerator.HVF,
    "vmware": Accelerator.VMWARE,
    "vbox": Accelerator.VIRTUALBOX,
    "hyperv": Accelerator.HYPERV,
}

_CONTAINERS: Final = frozenset({"lxc", "openvz"})

_OTHER_ROOTS: Final = {
    "domainsnapshot": "a snapshot, not a machine; write the machine with: virsh dumpxml DOMAIN",
    "domaincheckpoint": "a checkpoint, not a machine; write the machine with: virsh dumpxml DOMAIN",
    "domstatus": "libvirt's state of a running machine; write one with: virsh dumpxml --inactive",
    "domainCapabilities": "what a host can do, not a machine",
    "capabilities": "what a host can do, not a machine",
    "network": "a network, not a machine",
    "pool": "a storage pool, not a machine",
    "volume": "a storage volume, not a machine",
}

_LIBOSINFO: Final = "{http://libosinfo.org/xmlns/libvirt/domain/1.0}"


def read_libvirt(data: bytes, name: str) -> Reading[Machine]:
    """The machine that a domain XML, the content of the file called `name`, describes.

    Raises:
        UnknownFormat: the root element is not that of one domain.
        CorruptInput: not well-formed, or a value that libvirt could never mean.
        UnsupportedFeature: it describes a container.
        UnsafeInput: it declares a document type.
    """
    document = parse_xml(data, name=name)
    recorder = Recorder.of(document, secrets=SECRETS)
    root = recorder.root
    _check_root(root, name)
    return recorder.finish(_machine(root), dialect=DIALECT, losses=LOSSES)


def _check_root(root: Node, name: str) -> None:
    at = str(root.position)
    if root.element.tag == "domain":
        kind = root.peek("type")
        guest = root.find("os", "type")
        if kind in _CONTAINERS or (guest is not None and guest.peek_text() == "exe"):
            raise UnsupportedFeature(
                name,
                at=at,
                code="libvirt.container",
                problem=f"describes a container (type {kind!r}), not a virtual machine",
            )
        return
    several = root.children("domain")
    if len(several) > 1:
        raise UnknownFormat(
            name,
            at=str(several[1].position),
            code="libvirt.several-domains",
            problem=f"holds {len(several)} domains; one file describes one machine",
            hint="write each to a file of its own with: virsh dumpxml DOMAIN",
        )
    what = _OTHER_ROOTS.get(root.tag, "not a libvirt domain")
    raise UnknownFormat(
        name, at=at, code="libvirt.root", problem=f"the root element is <{root.tag}>: {what}"
    )


def _machine(root: Node) -> Machine:
    devices_node = root.child("devices")
    parts = () if devices_node is None else (devices_node,)
    cpu = processor.read_cpu(root)
    controllers = storage.read_controllers(parts)
    disks = storage.read_disks(parts)
    nics = network.read_nics(parts)
    host_devices = devices.read_host_devices(parts)
    machine = Machine(
        name=_text(root, "name", "name"),
        title=_text(root, "title", "title"),
        annotation=_text(root, "description", "annotation"),
        uuid=_uuid(root),
        genid=_generation_id(root),
        guest_os=_guest_os(root),
        accelerator=choice(root, "type", _ACCELERATORS, Accelerator.OTHER, "accelerator"),
        virtualization=platform.read_virtualization(root),
        architecture=platform.read_architecture(root),
        chipset=platform.read_chipset(root),
        machine_type=platform.read_machine_type(root),
        smbios=platform.read_smbios(root),
        smbios_mode=platform.read_smbios_mode(root),
        firmware=platform.read_firmware(root),
        boot=platform.read_boot(root),
        tpm=devices.read_tpm(parts),
        cpu=cpu,
        memory=processor.read_memory(root),
        memory_modules=devices.read_memory_modules(parts),
        numa=processor.read_numa(root),
        io_threads=_number(root, "iothreads", "io_threads"),
        features=platform.read_features(root),
        clock=platform.read_clock(root),
        power=platform.read_power(root),
        controllers=controllers,
        disks=disks,
        nics=nics,
        graphics=devices.read_graphics(parts),
        videos=devices.read_videos(parts),
        serials=devices.read_ports(parts, "serial", "serials"),
        parallels=devices.read_ports(parts, "parallel", "parallels"),
        consoles=devices.read_ports(parts, "console", "consoles"),
        channels=devices.read_ports(parts, "channel", "channels"),
        sounds=devices.read_sounds(parts),
        inputs=devices.read_inputs(parts),
        rngs=devices.read_rngs(parts),
        watchdogs=devices.read_watchdogs(parts),
        balloon=devices.read_balloon(parts),
        panics=devices.read_panics(parts),
        vsock=devices.read_vsock(parts),
        iommu=devices.read_iommu(parts),
        host_devices=host_devices,
        shared_folders=devices.read_shared_folders(parts),
        usb_redirections=devices.read_usb_redirections(parts),
        smart_cards=devices.read_smart_cards(parts),
    )
    _check_boot_orders(root, machine)
    return machine


def _text(root: Node, tag: str, to: str) -> str | None:
    node = root.child(tag)
    return None if node is None else node.text(to)


def _number(root: Node, tag: str, to: str) -> int | None:
    node = root.child(tag)
    return None if node is None else number(node, None, to)


def _uuid(root: Node) -> UUID | None:
    node = root.child("uuid")
    return None if node is None else uuid(node, "uuid")


def _generation_id(root: Node) -> GenerationId | None:
    node = root.child("genid")
    if node is None:
        return None
    stated = uuid(node, "genid.id")
    if stated is None:
        node.present("genid")
    return GenerationId(stated)


def _guest_os(root: Node) -> GuestOs | None:
    node = root.find("metadata", f"{_LIBOSINFO}libosinfo", f"{_LIBOSINFO}os")
    osinfo = None if node is None else node.attribute("id", "guest_os.osinfo")
    return GuestOs(osinfo=osinfo) if osinfo else None


def _check_boot_orders(root: Node, machine: Machine) -> None:
    """Libvirt refuses two devices with one place in the order, and two ways to state an order."""
    seen: dict[str, str] = {}
    for device in root.element.iterfind("devices/*/boot"):
        order = (device.get("order") or "").strip()
        if order in seen:
            raise CorruptInput(
                root.recorder.document.name,
                at=str(root.recorder.document.position(device, "order")),
                code="machine.boot-order",
                problem=f"boot order {order} is given to two devices, "
                f"{seen[order]} and {root.recorder.paths[device]}",
            )
        seen[order] = root.recorder.paths[device]
    if seen and machine.boot is not None and machine.boot.order:
        raise _first_boot(root).error(
            "boot-order",
            "<os><boot/> and boot orders of single devices exclude each other",
            hint="keep one of the two",
        )


def _first_boot(root: Node) -> Node:
    system = root.child("os")
    return root if system is None else next(iter(system.children("boot")), system)
