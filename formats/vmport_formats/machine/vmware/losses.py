"""What VMware's virtual machines have no place for: why, what it means for the guest, what to do.

Keys are model paths with ``[*]`` for any index; a key stands for all that lies below it.  The
writers of VMX and of OVF share the table; where one of them can say more, it adds its own words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.machine.ledger import Impact, Loss

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOST = "it concerns the old host, not the guest"
_OWN = "VMware brings its own"
_ALWAYS = "every VMware machine has it; there is nothing to say"
_CHIP = "it tunes a device of the old hypervisor"


def _none(why: str) -> Loss:
    return Loss(why, impact=Impact.NONE)


def _minor(why: str, effect: str = "", action: str = "") -> Loss:
    return Loss(why, effect, action, Impact.MINOR)


def _major(why: str, effect: str, action: str = "") -> Loss:
    return Loss(why, effect, action, Impact.MAJOR)


_PCI: Final = _minor(
    "VMware lays out its own PCI bus",
    "a card's place on the bus changes, and with it a network name such as enp1s0",
    "in the guest, bind network settings to the MAC address rather than to the name",
)

VMWARE_LOSSES: Final[Mapping[str, Loss]] = {
    # Identity and platform
    "genid": _minor(
        "a machine that arrives is a copy, and a copy gets a new generation id on purpose",
        "a domain controller notices that it was copied, as it should",
    ),
    "accelerator": _none("VMware runs the guest in its own way"),
    "virtualization": _major(
        "VMware shows every guest a whole PC; this one was made for Xen's own interface",
        "a kernel that runs only on that interface does not start",
        "install a standard kernel and boot loader in the guest",
    ),
    "chipset": _minor(
        "VMware emulates one board of its own (Intel 440BX)",
        "the guest sees other system devices; Windows may ask to be activated again",
    ),
    "machine_type": _none("it names a board of the old hypervisor"),
    "smbios[*]": _minor(
        "VMware writes its own SMBIOS tables",
        "serial numbers and vendor names differ; a licence may hang on them",
    ),
    "smbios_mode": _none(_OWN + " SMBIOS tables"),
    # Firmware
    "firmware.loader": _none(_OWN + " firmware"),
    "firmware.loader_type": _none(_OWN + " firmware"),
    "firmware.loader_read_only": _none(_OWN + " firmware"),
    "firmware.secure_boot_capable": _none("VMware's UEFI can always boot securely"),
    "firmware.enrolled_keys": _none("VMware's UEFI always has Microsoft's keys"),
    "firmware.nvram": _major(
        "VMware's NVRAM has another format; its boot entries do not carry over",
        "the firmware boots only what it finds itself: \\EFI\\BOOT\\BOOTX64.EFI, Windows' loader",
        "in the guest, also install the boot loader to the removable-media path "
        "(Debian: dpkg-reconfigure grub-efi-amd64; grub-install --removable)",
    ),
    "firmware.kernel": _major(
        "VMware does not load a kernel itself",
        "the guest does not start unless its disk has a boot loader",
        "install a boot loader in the guest",
    ),
    "firmware.initrd": _none("it goes with the kernel that VMware does not load"),
    "firmware.command_line": _minor(
        "it goes with the kernel that VMware does not load",
        "the kernel starts without these options",
        "put them into the configuration of the guest's boot loader",
    ),
    "firmware.device_tree": _none("VMware has no device trees"),
    "boot.menu": _minor(
        "VMware has no such switch", "", "press Esc or F2 while the machine starts"
    ),
    "boot.serial_console": _minor("VMware's firmware does not talk on the serial port"),
    # TPM
    "tpm.device": _major(
        "VMware has virtual TPMs only",
        "what is sealed in the chip of the old host (BitLocker, LUKS) does not open",
        "have the recovery keys at hand",
    ),
    "tpm.persistent_state": _none("VMware keeps a TPM's state always"),
    # Processor and memory
    "cpu.mode": _none("a VMware guest sees the processor of its host (or the cluster's baseline)"),
    "cpu.model": _none("a VMware guest sees the processor of its host (or the cluster's baseline)"),
    "cpu.vendor": _none("a VMware guest sees the processor of its host"),
    "cpu.features[*]": _minor(
        "a VMware guest sees the features of its host",
        "a feature that was asked for, or hidden, may be absent or present",
    ),
    "cpu.placement": _none(_HOST),
    "memory.current": _minor(
        "VMware's balloon starts empty",
        "the machine starts with all of its memory",
        "set a memory limit on the new host, if this one mattered",
    ),
    "memory.maximum": _minor("VMware grows memory up to what the host allows"),
    "memory.slots": _none("VMware has no count of memory slots"),
    "memory.huge_pages": _none("VMware backs memory with large pages by itself"),
    "memory.page_size": _none("VMware backs memory with large pages by itself"),
    "memory.shared": _none("it is for virtiofs and the like, which VMware does not have"),
    "memory.source": _none(_HOST),
    "memory_modules[*]": _minor(
        "VMware has no such memory device", "the guest lacks this memory", "enlarge the main memory"
    ),
    "numa[*]": _minor(
        "VMware lays out NUMA cells by itself", "memory may be farther from its processors"
    ),
    "io_threads": _none(_HOST),
    # Features
    "features.acpi": _none(_ALWAYS),
    "features.apic": _none(_ALWAYS),
    "features.pae": _none(_ALWAYS),
    "features.smm": _none("VMware protects secure boot in its own way"),
    "features.vmport": _none(_ALWAYS),
    "features.enlightenments[*]": _minor(
        "VMware has its own paravirtual helps", "Windows finds VMware's in place of Hyper-V's"
    ),
    "clock": _none(
        "VMware sets the hardware clock by the guest system: local time for Windows, UTC for others"
    ),
    "clock.timers[*]": _none(_OWN + " timers"),
    "clock.offset": _minor(
        "VMware has no offset of the clock", "the guest's clock starts unshifted"
    ),
    "power.on_power_off": _none("VMware machines stay defined when they power off"),
    "power.on_reboot": _none("VMware machines restart on a reboot"),
    "power.on_crash": _minor(
        "VMware does not act when a guest crashes", "", "use vSphere HA's VM monitoring"
    ),
    "power.suspend_to_memory": _none(_OWN + " power states"),
    "power.suspend_to_disk": _none(_OWN + " power states"),
    "power.autostart": _minor("autostart is a setting of the host", "", "set it on the new host"),
    # Controllers
    "controllers[*]": _none(_OWN + " controllers of this kind"),
    "controllers[*].ports": _none(_CHIP),
    "controllers[*].vectors": _none(_CHIP),
    "controllers[*].queues": _none(_CHIP),
    "controllers[*].io_thread": _none(_CHIP),
    "controllers[*].pci": _none("VMware lays out its own PCI bus"),
    "controllers[*].shared_bus": _major(
        "the bus was shared with other machines",
        "a cluster's other machines do not see its disks",
        "set bus sharing on the new host",
    ),
    # Disks
    "disks[*].target": _none("the name is a suggestion of the old hypervisor"),
    "disks[*].pci": _none("VMware lays out its own PCI bus"),
    "disks[*].source.format": _none("the converted disk has VMware's format"),
    "disks[*].source.hosts[*]": _none("the converted disk is a file"),
    "disks[*].backing[*]": _none("the converted disk holds all that the chain held"),
    "disks[*].snapshot_source": _none(_HOST),
    "disks[*].shareable": _major(
        "the disk was shared with other machines",
        "if they all write to it, data is lost",
        "set up sharing on the new host",
    ),
    "disks[*].transient": _minor(
        "the new descriptor has no word for a disk that forgets",
        "changes outlive a power-off",
        "set the disk's mode to independent-nonpersistent on the new host",
    ),
    "disks[*].independent": _minor(
        "the new descriptor has no word for it",
        "snapshots include this disk",
        "set the disk's mode to independent on the new host",
    ),
    "disks[*].connected": _none("a hard disk is always connected"),
    "disks[*].tray_open": _none("the tray starts closed"),
    "disks[*].serial": _minor(
        "VMware makes up the serial numbers of disks",
        "/dev/disk/by-id changes; a licence may hang on it",
        "in the guest, mount by UUID",
    ),
    "disks[*].wwn": _minor(
        "VMware makes up world-wide names", "/dev/disk/by-id changes", "in the guest, mount by UUID"
    ),
    "disks[*].vendor": _none(_OWN + " vendor strings"),
    "disks[*].product": _none(_OWN + " product strings"),
    "disks[*].removable": _minor("VMware's disk images are not removable"),
    "disks[*].cache": _none(_HOST),
    "disks[*].io": _none(_HOST),
    "disks[*].discard": _minor(
        "VMware decides by the datastore whether a guest can give back space"
    ),
    "disks[*].detect_zeroes": _none(_HOST),
    "disks[*].error_policy": _minor("VMware pauses or fails a guest's I/O by its own rules"),
    "disks[*].queues": _none(_CHIP),
    "disks[*].io_thread": _none(_CHIP),
    "disks[*].logical_block": _major(
        "VMware's disks have sectors of 512 bytes",
        "a disk that was used with 4096 does not read right",
        "copy its content inside the guest",
    ),
    "disks[*].physical_block": _none("VMware's disks report 512 bytes"),
    "disks[*].limits": _minor(
        "limits belong to the host", "the disk is not throttled", "set limits on the new host"
    ),
    "disks[*].encryption": _major(
        "the content is encrypted by the old host",
        "the disk does not read until it is decrypted",
        "convert the disk with its key to an image that is not encrypted",
    ),
    # Network
    "nics[*].rom": _none(_OWN + " boot ROM"),
    "nics[*].mtu": _minor(
        "the MTU belongs to the virtual switch", "", "set it on the new switch and in the guest"
    ),
    "nics[*].queues": _none(_CHIP),
    "nics[*].driver": _none(_HOST),
    "nics[*].filter": _major(
        "filters belong to the network", "the guest's traffic is not filtered", "set up a firewall"
    ),
    "nics[*].isolated": _minor(
        "isolation belongs to the virtual switch", "other guests can reach this one"
    ),
    "nics[*].inbound": _minor("shaping belongs to the port group", "", "set it there"),
    "nics[*].outbound": _minor("shaping belongs to the port group", "", "set it there"),
    "nics[*].host_name": _none(_HOST),
    "nics[*].pci": _PCI,
    "nics[*].source": _none("VMware knows its networks by their own names"),
    "nics[*].source.vlan": _minor("VLANs belong to the port group", "", "set it there"),
    # The rest
    "graphics[*]": _none("VMware shows the screen in its own console"),
    "videos[*]": _minor("VMware has one graphics card", "the guest's resolution may differ"),
    "videos[*].model": _none("VMware has one graphics card, of its own"),
    "videos[*].pci": _none("VMware lays out its own PCI bus"),
    "videos[*].system_memory": _none("it is QXL's"),
    "videos[*].vga_memory": _none("it is QXL's"),
    "videos[*].primary": _none("VMware has one graphics card"),
    "videos[*].blob": _none("it is virtio's"),
    "videos[*].accelerated_2d": _none("it is VirtualBox's"),
    "serials[*]": _minor("VMware has four serial ports at most", "the guest lacks this port"),
    "parallels[*]": _minor("VMware has three parallel ports at most", "the guest lacks this port"),
    "consoles[*]": _minor(
        "VMware has no virtio console",
        "hvc0 is missing in the guest; nothing shows a login there",
        "use the screen, or the serial port ttyS0",
    ),
    "channels[*]": _minor(
        "VMware has no virtio channels",
        "the QEMU guest agent and SPICE's do not reach the host",
        "install open-vm-tools in the guest",
    ),
    "sounds[*]": _minor("VMware has one sound card", "the guest lacks this one"),
    "sounds[*].codecs[*]": _none("VMware's sound card has its own codec"),
    "sounds[*].pci": _none("VMware lays out its own PCI bus"),
    "inputs[*]": _none(_OWN + " keyboard and mouse"),
    "inputs[*].device": _minor(
        "a device of the old host was handed through", "", "attach it on the new host"
    ),
    "rngs[*]": _minor(
        "VMware has no random-number device",
        "Linux draws from the processor (RDRAND) instead",
    ),
    "watchdogs[*]": _minor(
        "VMware has no watchdog card",
        "a guest that hangs is not reset",
        "use vSphere HA's VM monitoring",
    ),
    "balloon": _none("VMware Tools brings VMware's own balloon"),
    "panics[*]": _minor("VMware has no panic device", "a crash is not reported to the host"),
    "iommu": _minor("the guest has no IOMMU of that kind"),
    "host_devices[*]": _major(
        "a device of the old host was handed through",
        "the guest lacks this device",
        "hand a device of the new host through",
    ),
    "shared_folders[*]": _major(
        "VMware has no virtiofs and no 9p",
        "the mount fails; a guest that waits for it may not start fully",
        "share the folder over NFS, or take it out of the guest's fstab",
    ),
    "usb_redirections[*]": _none("VMware's console redirects USB in its own way"),
    "smart_cards[*]": _minor("VMware hands smart-card readers through as USB devices"),
    "snapshots[*]": _major(
        "the translation describes the present state only",
        "earlier states cannot be gone back to",
        "keep the old machine until they are not needed",
    ),
}
