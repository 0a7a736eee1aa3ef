"""Network cards, USB controllers, ports, screen and sound as items of an OVF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.machine import vmware
from vmport_formats.machine.ledger import Impact, Loss
from vmport_formats.machine.model import ControllerKind, ControllerModel, NicSourceKind
from vmport_formats.machine.ovf import vocabulary
from vmport_formats.machine.ovf.markup import Item
from vmport_formats.machine.ovf.vocabulary import ResourceType

if TYPE_CHECKING:
    from vmport_formats.machine.ledger import Books
    from vmport_formats.machine.model import Machine, Nic, Port
    from vmport_formats.machine.ovf.section import Hardware

_NO_NETWORK: Final = (NicSourceKind.HOSTDEV, NicSourceKind.VHOST_USER, NicSourceKind.TUNNEL)

_NETWORK: Final = "VM Network"
"""What VMware calls the network of a new host."""


def add_nics(machine: Machine, books: Books, hardware: Hardware) -> None:
    """The network cards, and the networks that they are on."""
    most = vmware.max_nics(vmware.hardware_version(machine))
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
        passed = nic.source is not None and nic.source.kind in _NO_NETWORK
        books.adapted(
            f"{path}.source.kind",
            place=place,
            after=f"network {network}",
            why="a card of the old host was handed through; an emulated one replaces it"
            if passed
            else "an importer asks to which of the new host's networks each network goes",
            action="choose its network at the import" if passed else "",
            impact=Impact.MINOR if passed else Impact.NONE,
        )


def _network(nic: Nic) -> tuple[str, str | None]:
    """The name of the network that a card is on, and which part of its source says so."""
    source = nic.source
    if source is None:
        return _NETWORK, None
    for part in ("network", "bridge", "device"):
        name = (getattr(source, part) or "").strip()
        if name:
            return name, part
    if source.kind is NicSourceKind.NAT:
        return "NAT", "kind"
    return _NETWORK, None


def add_usb(machine: Machine, books: Books, hardware: Hardware) -> None:
    """The USB controllers: one for USB 2 and older, one for USB 3."""
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


def add_ports(machine: Machine, books: Books, hardware: Hardware) -> None:
    """The serial and parallel ports, not connected to anything."""
    serials = [(f"serials[{index}]", port) for index, port in enumerate(machine.serials)]
    consoles = [
        (f"consoles[{index}]", port)
        for index, port in enumerate(machine.consoles)
        if port.target in (None, "serial")
    ]
    # libvirt names the first serial port a second time, as a console; alone, it implies the port.
    if not serials:
        serials, consoles = consoles[:1], consoles[1:]
    for number, (path, port) in enumerate(serials[: vmware.MAX_SERIALS], start=1):
        item = hardware.add(
            Item(
                ResourceType.SERIAL,
                f"Serial port {number}",
                automatic_allocation=False,
                subtype=vocabulary.SERIAL_SUBTYPE,
                configs=(("yieldOnPoll", "true"),),
                required=False,
            )
        )
        _port(books, path, port, item)
        if number == 1:
            for console, _ in consoles:
                books.kept(console, place=item.place, after="the serial port once more")
    for index, port in enumerate(machine.parallels[: vmware.MAX_PARALLELS]):
        item = hardware.add(
            Item(
                ResourceType.PARALLEL,
                f"Parallel port {index + 1}",
                automatic_allocation=False,
                subtype=vocabulary.PARALLEL_SUBTYPE,
                required=False,
            )
        )
        _port(books, f"parallels[{index}]", port, item)


def _port(books: Books, path: str, port: Port, item: Item) -> None:
    books.kept(f"{path}.index", place=item.place)
    if port.target in (None, "isa-serial", "serial", "isa-parallel"):
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


def add_video(machine: Machine, books: Books, hardware: Hardware) -> None:
    """The graphics card."""
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


def add_sound(machine: Machine, books: Books, hardware: Hardware) -> None:
    """The sound card."""
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
    elif sound.model is None:
        books.defaulted(place=item.place, after=after, why=change.why)
        if books.is_value("sounds[0]"):
            books.kept("sounds[0]", place=item.place, after=after)
    else:
        books.adapted(
            "sounds[0].model",
            place=item.place,
            after=after,
            why=change.why,
            effect=change.effect,
            impact=change.impact,
        )
