"""Reads the platform of a libvirt domain: board, firmware, boot, features, clock, power."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_formats.machine.libvirt.values import (
    choice,
    flag,
    number,
    raw,
    same,
    switch,
)
from vmport_formats.machine.model import (
    Architecture,
    Boot,
    BootDevice,
    Chipset,
    Clock,
    ClockBase,
    Enlightenment,
    Features,
    Firmware,
    FirmwareKind,
    Nvram,
    Power,
    PowerAction,
    SmbiosValue,
    Timer,
    Virtualization,
)

if TYPE_CHECKING:
    from vmport_formats.machine.reading import Node

_VIRTUALIZATIONS: Final = {
    "hvm": Virtualization.FULL,
    "xen": Virtualization.PARAVIRTUAL,
    "linux": Virtualization.PARAVIRTUAL,
    "xenpvh": Virtualization.PARAVIRTUAL,
}

# Boards by the start of their name: "pc-i440fx-9.2", "pc-q35-rhel9.4.0", "virt-8.2".
_CHIPSETS: Final = (
    ("pc-q35", Chipset.Q35),
    ("q35", Chipset.Q35),
    ("pc-i440fx", Chipset.I440FX),
    ("microvm", Chipset.MICROVM),
    ("virt", Chipset.VIRT),
    ("pc", Chipset.I440FX),
)

# libvirt says whether a <loader> is flash, not what is in it; its file's name does.
_FIRMWARE_NAMES: Final = (
    (re.compile(r"ovmf|edk2|aavmf|uefi|qemu[-_]efi", re.IGNORECASE), FirmwareKind.UEFI),
    (re.compile(r"seabios|bios[-_.0-9]*(256k)?\.bin|hvmloader", re.IGNORECASE), FirmwareKind.BIOS),
)

_BOOT_DEVICES: Final = {
    "hd": BootDevice.DISK,
    "cdrom": BootDevice.CDROM,
    "fd": BootDevice.FLOPPY,
    "network": BootDevice.NETWORK,
}

_VIRTUALIZATION_FLAGS: Final = frozenset({"vmx", "svm"})


def read_virtualization(root: Node) -> Virtualization | None:
    """Full or paravirtual."""
    node = root.find("os", "type")
    if node is None:
        return None
    return choice(node, None, _VIRTUALIZATIONS, Virtualization.OTHER, "virtualization")


def read_architecture(root: Node) -> Architecture | None:
    """The guest's instruction set."""
    node = root.find("os", "type")
    if node is None:
        return None
    names = same(Architecture, i386=Architecture.I686, i586=Architecture.I686)
    return choice(node, "arch", names, Architecture.OTHER, "architecture")


def read_chipset(root: Node) -> Chipset | None:
    """The board, as far as its name tells."""
    node = root.find("os", "type")
    machine = None if node is None else raw(node, "machine", "chipset")
    if machine is None:
        return None
    return next((kind for start, kind in _CHIPSETS if machine.startswith(start)), Chipset.OTHER)


def read_machine_type(root: Node) -> str | None:
    """The board with its version."""
    node = root.find("os", "type")
    return None if node is None else raw(node, "machine", "machine_type")


# --- Firmware and boot --------------------------------------------------------------------------


def read_firmware(root: Node) -> Firmware | None:
    """BIOS or UEFI, with what belongs to them."""
    node = root.child("os")
    if node is None:
        return None
    node = node.into("firmware")
    secure, enrolled = _firmware_features(node)
    loader = node.child("loader")
    firmware = Firmware(
        kind=_firmware_kind(node),
        secure_boot=secure,
        secure_boot_capable=None
        if loader is None
        else switch(loader, "secure", "secure_boot_capable"),
        enrolled_keys=enrolled,
        loader=None if loader is None else loader.text("loader"),
        loader_type=None if loader is None else raw(loader, "type", "loader_type"),
        loader_read_only=None if loader is None else switch(loader, "readonly", "loader_read_only"),
        nvram=_nvram(node),
        kernel=_os_text(node, "kernel"),
        initrd=_os_text(node, "initrd"),
        command_line=_os_text(node, "cmdline", "command_line"),
        device_tree=_os_text(node, "dtb", "device_tree"),
    )
    return None if firmware == Firmware() else firmware


def _firmware_kind(node: Node) -> FirmwareKind | None:
    names = {"efi": FirmwareKind.UEFI, "bios": FirmwareKind.BIOS}
    stated = choice(node, "firmware", names, FirmwareKind.OTHER, "kind")
    if stated is not None:
        return stated
    loader = node.child("loader")
    if loader is not None:
        if loader.peek("type") == "pflash":  # only UEFI is kept in flash
            loader.attribute("type", "kind")
            return FirmwareKind.UEFI
        path = loader.peek_text()
        for pattern, kind in _FIRMWARE_NAMES:
            if pattern.search(path.rpartition("/")[2]):
                loader.text("kind")
                return kind
        if path:
            loader.text("kind")
            return FirmwareKind.OTHER
    kernel = node.child("kernel")
    if kernel is not None and kernel.text("kind"):
        return FirmwareKind.DIRECT_KERNEL
    return None


def _firmware_features(node: Node) -> tuple[bool | None, bool | None]:
    found: dict[str, bool | None] = {}
    parent = node.child("firmware")
    for feature in () if parent is None else parent.children("feature"):
        to = {"secure-boot": "secure_boot", "enrolled-keys": "enrolled_keys"}.get(
            feature.peek("name") or ""
        )
        if to is not None:
            feature.attribute("name", to)
            found[to] = switch(feature, "enabled", to)
    return found.get("secure_boot"), found.get("enrolled_keys")


def _nvram(node: Node) -> Nvram | None:
    found = node.child("nvram")
    if found is None:
        return None
    found = found.into("nvram")
    source = found.child("source")
    path = found.text("path")
    for attribute in ("file", "dev", "name", "volume"):
        if source is not None and path is None:
            path = raw(source, attribute, "path")
    nvram = Nvram(
        path=path,
        template=raw(found, "template", "template"),
        format=raw(found, "format", "format"),
    )
    found.present("")
    return nvram


def _os_text(node: Node, tag: str, to: str | None = None) -> str | None:
    found = node.child(tag)
    return None if found is None else found.text(to or tag)


def read_boot(root: Node) -> Boot | None:
    """The order of device classes, and the menu."""
    node = root.child("os")
    if node is None:
        return None
    node = node.into("boot")
    order = [
        device
        for index, found in enumerate(node.children("boot"))
        if (device := _boot_device(found, index)) is not None
    ]
    menu, bios = node.child("bootmenu"), node.child("bios")
    boot = Boot(
        order=tuple(order),
        menu=None if menu is None else switch(menu, "enable", "menu"),
        delay_ms=None if menu is None else number(menu, "timeout", "delay_ms", high=65535),
        serial_console=None if bios is None else switch(bios, "useserial", "serial_console"),
    )
    return None if boot == Boot() else boot


def _boot_device(node: Node, index: int) -> BootDevice | None:
    return choice(node, "dev", _BOOT_DEVICES, BootDevice.OTHER, f"order[{index}]")


def read_smbios_mode(root: Node) -> str | None:
    """Where the strings of SMBIOS come from."""
    node = root.find("os", "smbios")
    return None if node is None else raw(node, "mode", "smbios_mode")


def read_smbios(root: Node) -> tuple[SmbiosValue, ...]:
    """The strings that the descriptor sets itself."""
    values: list[SmbiosValue] = []
    for info in root.children("sysinfo"):
        if info.peek("type") != "smbios":
            continue
        for block in info.children("bios", "system", "baseBoard", "chassis", "oemStrings"):
            for index, entry in enumerate(block.children("entry"), start=1):
                to = f"smbios[{len(values)}]"
                entry.attribute("name", f"{to}.name", f"{to}.block")
                value = entry.text(f"{to}.value", f"{to}.block", f"{to}.name")
                if value is not None:
                    name = entry.peek("name") or str(index)
                    values.append(SmbiosValue(block.tag, name, value))
    return tuple(values)


# --- Features, clock, power ---------------------------------------------------------------------


def read_features(root: Node) -> Features | None:
    """Switches of the platform, and the paravirtual helps."""
    node = root.child("features")
    features = Features(
        acpi=flag(node, "acpi", "features.acpi"),
        apic=flag(node, "apic", "features.apic"),
        pae=flag(node, "pae", "features.pae"),
        smm=flag(node, "smm", "features.smm"),
        nested=_nested(root),
        pmu=flag(node, "pmu", "features.pmu"),
        vmport=flag(node, "vmport", "features.vmport"),
        enlightenments=() if node is None else _enlightenments(node),
    )
    return None if features == Features() else features


def _nested(root: Node) -> bool | None:
    """Whether the CPU is asked to offer (or hide) hardware virtualization to the guest."""
    cpu = root.child("cpu")
    for found in () if cpu is None else cpu.children("feature"):
        if found.peek("name") in _VIRTUALIZATION_FLAGS:
            found.attribute("name", "features.nested")
            policy = raw(found, "policy", "features.nested")
            return policy not in {"disable", "forbid"}
    return None


def _enlightenments(node: Node) -> tuple[Enlightenment, ...]:
    items: list[Enlightenment] = []
    for family in ("hyperv", "kvm", "xen"):
        parent = node.child(family)
        for found in () if parent is None else parent.children():
            to = f"features.enlightenments[{len(items)}]"
            found.present(f"{to}.family", f"{to}.name")
            enabled = switch(found, "state", f"{to}.family", f"{to}.name", f"{to}.enabled")
            settings = ("value", "retries", "mode", "size")
            stated = [name for name in settings if found.peek(name) is not None]
            value = None
            if stated:
                value = raw(found, stated[0], f"{to}.value", f"{to}.family", f"{to}.name")
            items.append(Enlightenment(family, found.tag, enabled, value))
    return tuple(items)


def read_clock(root: Node) -> Clock | None:
    """The hardware clock and the timers."""
    node = root.child("clock")
    if node is None:
        return None
    node = node.into("clock")
    adjustment = node.peek("adjustment")
    offset = None
    counts_from_utc = node.peek("basis") in (None, "utc")
    if adjustment is not None and counts_from_utc and re.fullmatch(r"-?\d{1,12}", adjustment):
        node.attribute("adjustment", "offset")
        offset = int(adjustment)
    timers: list[Timer] = []
    for found in node.children("timer"):
        to = f"timers[{len(timers)}]"
        name = raw(found, "name", f"{to}.name")
        if name is None:
            raise found.error("timer", "a timer without a name")
        timers.append(
            Timer(
                name,
                present=switch(found, "present", f"{to}.present"),
                tick_policy=raw(found, "tickpolicy", f"{to}.tick_policy"),
                track=raw(found, "track", f"{to}.track"),
                frequency=number(found, "frequency", f"{to}.frequency"),
            )
        )
    return Clock(
        base=choice(node, "offset", same(ClockBase), ClockBase.OTHER, "base"),
        timezone=raw(node, "timezone", "timezone"),
        offset=offset,
        timers=tuple(timers),
    )


def read_power(root: Node) -> Power | None:
    """What happens at power-off, reboot and crash, and which sleep states there are."""
    power = Power(
        on_power_off=_action(root.child("on_poweroff"), "power.on_power_off"),
        on_reboot=_action(root.child("on_reboot"), "power.on_reboot"),
        on_crash=_action(root.child("on_crash"), "power.on_crash"),
        suspend_to_memory=_enabled(root.find("pm", "suspend-to-mem"), "power.suspend_to_memory"),
        suspend_to_disk=_enabled(root.find("pm", "suspend-to-disk"), "power.suspend_to_disk"),
    )
    return None if power == Power() else power


def _enabled(node: Node | None, to: str) -> bool | None:
    return None if node is None else switch(node, "enabled", to)


def _action(node: Node | None, to: str) -> PowerAction | None:
    return None if node is None else choice(node, None, same(PowerAction), PowerAction.OTHER, to)
