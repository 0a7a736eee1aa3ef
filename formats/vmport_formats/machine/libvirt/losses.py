"""What libvirt's XML says that no machine model carries, and why that does or does not matter.

Keys are paths without indices; one stands for all that lies below it (for the element alone, when
it ends in a slash), and ``//name`` for an element or attribute anywhere.  What is not here either,
vmport does not know, and the ledger says so.
"""

from __future__ import annotations

from typing import Final

from vmport_formats.machine.ledger import Impact, Loss

SECRETS: Final = frozenset(
    {
        "//@passwd",
        "//cookie",
        "/domain/launchSecurity/session",
        "/domain/launchSecurity/dhCert",
    }
)
"""Leaves whose values the ledger does not repeat."""


def _host(why: str) -> Loss:
    """Something about the old host, which the guest cannot tell."""
    return Loss(why, impact=Impact.NONE)


def _parts(device: str, loss: Loss, *names: str) -> dict[str, Loss]:
    """One reason for several parts of a device.

    Only parts that are known are listed: what libvirt adds one day must not pass for harmless.
    """
    return {f"/domain/devices/{device}/{name}": loss for name in names}


_ADDRESS: Final = Loss(
    "it says where on QEMU's buses the device sits; the new hypervisor has buses of its own",
    "the guest may find its devices at other places; names such as enp1s0 can change",
    "",
    Impact.NONE,
)
_RUNTIME: Final = _host("it is libvirt's note about the running machine")
_NOTES: Final = _host("it is a note of the tool that made the machine")
_TUNING: Final = Loss(
    "it tunes how the old host schedules the machine",
    "it competes with other machines by the new host's rules",
    "set shares, limits and reservations on the new host, if others depended on them",
)
_LABEL: Final = _host("it is a security label of the old host's processes and files")
_COMMAND_LINE: Final = Loss(
    "they are arguments for QEMU itself; vmport does not guess what they do",
    "a device or setting that only they make is missing",
    "read them, and set what the guest needs by hand",
    Impact.MAJOR,
)
_MEMORY_BACKING: Final = _host("it says from what the old host takes the memory")
_QEMU_DRIVER: Final = _host("it tunes QEMU's own device")
_AUTHENTICATION: Final = Loss(
    "it names a secret that only the old host holds",
    "none once the disk is converted",
    "keep the secret until it is",
    Impact.NONE,
)

_EMPTY: Final = _host("it is an empty element; it says nothing")
_CONTAINER: Final = _host("it is for containers only")
_POWERPC: Final = _host("it is for IBM's PowerPC machines only")
_PORT: Final = _host("it says how the old host reaches the port")
_PORT_PARTS: Final = ("source", "log", "protocol", "target/@state", "target/@address")

LOSSES: Final = {
    # Anywhere
    "//alias": _RUNTIME,
    "//address": _ADDRESS,
    "//@tty": _RUNTIME,
    "//seclabel": _LABEL,
    "//acpi": _QEMU_DRIVER,
    "//privateData": _RUNTIME,
    # The machine
    "/domain/": _EMPTY,
    "/domain/clock/": _EMPTY,
    "/domain/cpu/": _EMPTY,
    "/domain/cpu/numa/": _EMPTY,
    "/domain/devices/": _EMPTY,
    "/domain/features/": _EMPTY,
    "/domain/features/xen/": _EMPTY,
    "/domain/os/": _EMPTY,
    "/domain/pm/": _EMPTY,
    "/domain/@id": _RUNTIME,
    "/domain/hwuuid": Loss(
        "it is a second UUID, shown to the guest as that of the hardware", "it sees the first one"
    ),
    "/domain/metadata": _NOTES,
    "/domain/bootloader": _host("it says how Xen on the old host finds the kernel"),
    "/domain/bootloader_args": _host("it says how Xen on the old host finds the kernel"),
    "/domain/sysinfo/@type": _host("it says of what kind the entries in it are"),
    "/domain/sysinfo": Loss(
        "it passes data to the guest by a way that only QEMU has (fw_cfg)",
        "a guest that reads it (Ignition, for one) finds nothing",
        "pass the data by the new hypervisor's way",
        Impact.MAJOR,
    ),
    "/domain/idmap": _host("it maps users of containers"),
    "/domain/perf": _host("it measures the machine on the old host"),
    "/domain/resource": _TUNING,
    "/domain/cputune": _TUNING,
    "/domain/blkiotune": _TUNING,
    "/domain/memtune": _TUNING,
    "/domain/numatune": _TUNING,
    "/domain/iothreadids": _TUNING,
    "/domain/defaultiothread": _TUNING,
    "/domain/throttlegroups": _TUNING,
    "/domain/vcpu/@placement": _host("it says who picks the host's CPUs"),
    "/domain/vcpus": _host("it says which of the virtual CPUs are on at this moment"),
    "/domain/memory/@dumpCore": _host("it says whether the old host's core dumps hold the memory"),
    "/domain/memoryBacking": _MEMORY_BACKING,
    "/domain/keywrap": Loss("it is for keys of IBM mainframes", "no protected keys"),
    "/domain/launchSecurity": Loss(
        "it encrypts the guest's memory against the host (SEV, SEV-SNP, TDX)",
        "the new host can read the guest's memory",
        "turn on confidential computing on the new host, if it has it",
        Impact.MAJOR,
    ),
    "/domain/on_lockfailure": _host(
        "it says what to do when the old host loses its lock on a disk"
    ),
    "//commandline": _COMMAND_LINE,  # QEMU's, Xen's or bhyve's, by whatever prefix
    "//override": _COMMAND_LINE,
    "/domain/qemu:capabilities": _host("it turns QEMU's capabilities on or off for tests"),
    "/domain/qemu:deprecation": _host("it says what the old host does about outdated settings"),
    "/domain/vmware:datacenterpath": _host("it says where VMware's inventory had the machine"),
    # Firmware
    "/domain/os/firmware": _host("it narrows which firmware image libvirt picks"),
    "/domain/os/loader/@format": _host("it says how the old host stores the firmware image"),
    "/domain/os/loader/@stateless": Loss(
        "it says that the firmware keeps no variables", "it keeps them on the new hypervisor"
    ),
    "/domain/os/nvram/@type": _host("it says how the old host stores the variables"),
    "/domain/os/nvram/@templateFormat": _host("it says how the old host stores the variables"),
    "/domain/os/nvram/source": _host("it says how the old host stores the variables"),
    "/domain/os/bios/@rebootTimeout": Loss(
        "it retries after a failed boot", "the machine waits at the message that nothing booted"
    ),
    "/domain/os/acpi": Loss(
        "it hands the guest an extra ACPI table",
        "it does not find the table; a licence for Windows may be in it",
        "see whether the new hypervisor can pass it on",
    ),
    "/domain/os/shim": _host("it says how the old host starts a kernel under secure boot"),
    # Processor and features
    "/domain/cpu/@match": _host("it says how strictly libvirt compares the CPU with the host's"),
    "/domain/cpu/@check": _host("it says how strictly libvirt compares the CPU with the host's"),
    "/domain/cpu/@migratable": _host("it leaves out what would hinder live migration"),
    "/domain/cpu/@deprecated_features": _host("it leaves out outdated features of the CPU"),
    "/domain/cpu/model/@fallback": _host("it says what to do on a host without this CPU model"),
    "/domain/cpu/model/@vendor_id": Loss(
        "it makes the CPU name another maker", "the guest sees the host's maker"
    ),
    "/domain/cpu/cache": _QEMU_DRIVER,
    "/domain/cpu/maxphysaddr": _QEMU_DRIVER,
    "/domain/cpu/numa/cell/@memAccess": _MEMORY_BACKING,
    "/domain/cpu/numa/cell/@discard": _MEMORY_BACKING,
    "/domain/cpu/numa/cell/cache": _QEMU_DRIVER,
    "/domain/cpu/numa/interconnects": _QEMU_DRIVER,
    "/domain/features/hyperv": _host("it tunes a help for Windows that QEMU gives in its own way"),
    "/domain/features/kvm": _host("it tunes a help that KVM gives in its own way"),
    "/domain/features/smm/tseg": _QEMU_DRIVER,
    "/domain/features/hap": _host("it says how the old host maps memory"),
    "/domain/features/viridian": _host("it is Xen's help for Windows"),
    "/domain/features/privnet": _host("it is a network of containers"),
    "/domain/features/pvspinlock": _host("it is KVM's help for waiting CPUs"),
    "/domain/features/ioapic": _QEMU_DRIVER,
    "/domain/features/gic": _host("it is the interrupt controller of ARM boards"),
    "/domain/features/msrs": _host("it says what KVM does about unknown registers"),
    "/domain/features/async-teardown": _host("it says how the old host frees memory"),
    "/domain/features/capabilities": _CONTAINER,
    "/domain/features/tcg": _QEMU_DRIVER,
    "/domain/features/vmcoreinfo": Loss(
        "it tells QEMU where the kernel keeps what a core dump needs",
        "core dumps that the host takes of the guest say less",
    ),
    "/domain/features/ccf-assist": _POWERPC,
    "/domain/features/cfpc": _POWERPC,
    "/domain/features/hpt": _POWERPC,
    "/domain/features/htm": _POWERPC,
    "/domain/features/ibs": _POWERPC,
    "/domain/features/nested-hv": _POWERPC,
    "/domain/features/sbbc": _POWERPC,
    "/domain/features/ps2": Loss("it switches the PS/2 ports", "the guest has them"),
    # Clock
    "/domain/clock/@adjustment": _host(
        "it is libvirt's note of how far the guest has set its clock"
    ),
    "/domain/clock/@basis": _host("it says from what libvirt counts the guest's own offset"),
    "/domain/clock/@start": Loss(
        "it starts the clock at a fixed moment", "the clock shows the present time"
    ),
    "/domain/clock/timer": _host("it tunes QEMU's timers"),
    # Devices of all kinds
    "/domain/devices/emulator": _host("it is the QEMU program of the old host"),
    "/domain/devices/audio": _host("it says where the old host plays the sound"),
    "/domain/devices/hub": _host(
        "it is a USB hub; the new hypervisor makes ports as it needs them"
    ),
    "/domain/devices/lease": _host("it is a lock of the old host's lock manager"),
    "/domain/devices/redirfilter": _host("it says which USB devices a viewer may hand in"),
    "/domain/devices/nvram": _host("it is memory of a PowerPC board"),
    "/domain/devices/shmem": Loss(
        "it is memory that is shared with other machines of the old host",
        "the guest lacks the device; programs in it that talk over it fail",
        "have them talk over the network",
        Impact.MAJOR,
    ),
    "/domain/devices/crypto": Loss(
        "it is a virtual accelerator for encryption", "the guest encrypts in software"
    ),
    "/domain/devices/pstore": Loss(
        "it is memory that survives a crash", "the guest cannot store its last messages there"
    ),
    # Disks
    "/domain/devices/disk/@snapshot": _host("it says how libvirt takes snapshots of this disk"),
    "/domain/devices/disk/@rawio": _host("it grants QEMU raw access on the old host"),
    "/domain/devices/disk/@sgio": _host("it grants QEMU raw access on the old host"),
    "/domain/devices/disk/@model": _QEMU_DRIVER,
    "/domain/devices/disk/driver": _QEMU_DRIVER,
    "/domain/devices/disk/source": _host("it says how the old host reaches the content"),
    "/domain/devices/disk/source/@startupPolicy": Loss(
        "it starts the machine even without this medium",
        "the new hypervisor may ask, or refuse to start, when it is missing",
    ),
    "/domain/devices/disk/auth": _AUTHENTICATION,
    "/domain/devices/disk/source/auth": _AUTHENTICATION,
    "/domain/devices/disk/encryption": _AUTHENTICATION,
    "/domain/devices/disk/source/encryption": _AUTHENTICATION,
    "/domain/devices/disk/backingStore": _host(
        "it is libvirt's note of the chain under the disk; the disk's own header says the same"
    ),
    "/domain/devices/disk/mirror": Loss(
        "it is a copy job that was running on the disk",
        "the disk may be only half copied",
        "finish or abort it (virsh blockjob) before the disk is converted",
        Impact.MAJOR,
    ),
    "/domain/devices/disk/geometry": Loss(
        "it sets cylinders, heads and sectors by hand",
        "an old system that boots by them may not start",
        "compare with the new hypervisor's geometry, for DOS and the like",
    ),
    "/domain/devices/disk/iotune": _TUNING,
    "/domain/devices/disk/throttlefilters": _TUNING,
    "/domain/devices/disk/blockio": _QEMU_DRIVER,
    "/domain/devices/disk/boot/@loadparm": _host("it is a setting of IBM mainframes"),
    # Network
    "/domain/devices/interface/@managed": _host("it says who prepares the device on the old host"),
    "/domain/devices/interface/@trustGuestRxFilters": _host(
        "it says whether the old host follows filters"
    ),
    "/domain/devices/interface/mac/@check": _host("it is VMware's check of the address"),
    "/domain/devices/interface/source": _host("it says how the old host reaches the network"),
    "/domain/devices/interface/target": _host("it says what the old host calls its end"),
    "/domain/devices/interface/driver": _QEMU_DRIVER,
    "/domain/devices/interface/backend": _host(
        "it says which program of the old host moves the packets"
    ),
    "/domain/devices/interface/tune": _QEMU_DRIVER,
    "/domain/devices/interface/coalesce": _QEMU_DRIVER,
    "/domain/devices/interface/script": _host("it is a script that sets up the old host's end"),
    "/domain/devices/interface/downscript": _host(
        "it is a script that clears up the old host's end"
    ),
    "/domain/devices/interface/ip": Loss(
        "it is the address that the old host gives out or uses on this link",
        "the guest may get another address",
        "set the address in the guest, or in the new network's DHCP server",
    ),
    "/domain/devices/interface/route": _host("it is a route of the old host"),
    "/domain/devices/interface/guest": _host("it names the device in a container"),
    "/domain/devices/interface/portForward": Loss(
        "it forwards ports of the old host to the guest",
        "its services are not reachable that way",
        "set up forwarding on the new host",
        Impact.MAJOR,
    ),
    "/domain/devices/interface/virtualport": Loss(
        "it says how the old switch treats the card",
        "rules of that switch no longer apply",
        "set them on the new switch",
    ),
    "/domain/devices/interface/vlan": Loss(
        "the card carries a VLAN trunk",
        "the guest receives none of the tagged networks",
        "allow them on the port group or bridge",
        Impact.MAJOR,
    ),
    "/domain/devices/interface/filterref": Loss(
        "they are values for the old host's packet filter",
        "packets that it stopped get through",
        "filter on the new host or in the guest",
        Impact.MAJOR,
    ),
    "/domain/devices/interface/rom": _QEMU_DRIVER,
    "/domain/devices/interface/boot": _QEMU_DRIVER,
    "/domain/devices/interface/bandwidth": _host(
        "it is the old host's number for the shaped class"
    ),
    "/domain/devices/interface/teaming": Loss(
        "it pairs the card with a passed-through one",
        "both show up as cards of their own",
        "remove the bond in the guest, or pair them anew",
    ),
    "/domain/devices/interface/mtu": _QEMU_DRIVER,
    "/domain/devices/disk/source/slices": Loss(
        "the disk is a part of a larger file",
        "the converted disk would hold the whole file",
        "cut the part out first (qemu-img dd), and name the result",
        Impact.MAJOR,
    ),
    "/domain/devices/disk/backenddomain": _host("it says which of Xen's domains serves the disk"),
    "/domain/devices/interface/backenddomain": _host(
        "it says which of Xen's domains serves the card"
    ),
    # Screen, ports and helpers
    **_parts(
        "controller",
        _QEMU_DRIVER,
        "@maxEventChannels",
        "@maxGrantFrames",
        "driver",
        "model",
        "target",
        "pcihole64",
        "master",
    ),
    **_parts(
        "graphics",
        _host("it says how the old host shows the screen"),
        "@address",
        "@connected",
        "@defaultMode",
        "@display",
        "@fullscreen",
        "@multiUser",
        "@p2p",
        "@passwdValidTo",
        "@powerControl",
        "@replaceUser",
        "@sharePolicy",
        "@socket",
        "@xauth",
        "audio",
        "channel",
        "clipboard",
        "filetransfer",
        "gl",
        "image",
        "jpeg",
        "listen",
        "mouse",
        "playback",
        "streaming",
        "zlib",
    ),
    **_parts(
        "video",
        _host("it tunes QEMU's graphics card"),
        "driver",
        "model/@vram64",
        "model/acceleration",
        "model/resolution",
    ),
    **_parts(
        "sound", _host("it says where the old host plays the sound"), "audio", "@multichannel"
    ),
    **_parts("sound", _host("it tunes QEMU's sound card"), "driver", "@streams"),
    **_parts("serial", _PORT, *_PORT_PARTS),
    **_parts("parallel", _PORT, *_PORT_PARTS),
    **_parts("console", _PORT, *_PORT_PARTS),
    **_parts("channel", _PORT, *_PORT_PARTS),
    **_parts("redirdev", _PORT, *_PORT_PARTS, "boot"),
    **_parts("smartcard", _PORT, *_PORT_PARTS, "certificate", "database", "target"),
    **_parts("input", _host("it says how the old host reads the input device"), "source", "@model"),
    **_parts("input", _QEMU_DRIVER, "driver"),
    **_parts(
        "rng", _host("it says how the old host gathers randomness"), "backend", "rate", "driver"
    ),
    **_parts("memballoon", _QEMU_DRIVER, "driver", "stats"),
    **_parts("tpm", _host("it says how the old host runs the TPM"), "backend"),
    **_parts("iommu", _QEMU_DRIVER, "driver"),
    **_parts("vsock", _QEMU_DRIVER, "driver"),
    **_parts("memory", _MEMORY_BACKING, "@access", "@discard", "source", "target", "uuid"),
    **_parts(
        "hostdev",
        _host("it says how the old host hands over its device"),
        "@mode",
        "@model",
        "@display",
        "@ramfb",
        "@rawio",
        "@sgio",
        "boot",
        "driver",
        "ip",
        "readonly",
        "rom",
        "route",
        "shareable",
        "source",
        "teaming",
    ),
    **_parts(
        "filesystem",
        _host("it says how the old host shares the folder"),
        "@dmode",
        "@fmode",
        "@model",
        "@multidevs",
        "binary",
        "boot",
        "driver",
        "idmap",
        "source",
        "space_hard_limit",
        "space_soft_limit",
    ),
    "/domain/devices/graphics/@passwd": Loss(
        "it is the password of the old screen server; vmport copies no password",
        "the new hypervisor guards the screen by its own means",
        "",
        Impact.NONE,
    ),
}
