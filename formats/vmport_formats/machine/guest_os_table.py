"""The names that hypervisors and libosinfo give to guest operating systems, as tables.

Sources of the facts: VMware's guest keys and identifiers as open-vm-tools and the vSphere API
publish them, with the release that introduced each; the ValueMap of CIM_OperatingSystem.OSType;
the types that ``VBoxManage list ostypes`` prints (7.2); the ids of osinfo-db.  The map between
osinfo-db and the rest is ours.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

Version = tuple[int, ...]
"""A version as numbers, most significant first; Windows counts by the year of release."""


class Family(StrEnum):
    """What kind of kernel a guest runs."""

    LINUX = "Linux"
    WINDOWS = "Windows"
    BSD = "BSD"
    SOLARIS = "Solaris"
    DARWIN = "Darwin"
    OTHER = "other"


class VmwareKey(NamedTuple):
    """One system as VMware names it, 32-bit and 64-bit; None where VMware has no such width."""

    stem: str
    """The VMX value of ``guestOS``; the 64-bit one ends in ``-64``."""
    id_32: str | None
    """The vSphere ``guestId``, which is also OVF's ``vmw:osType``."""
    id_64: str | None
    hardware: int
    """Lowest virtual hardware version of which every host knows the key; 3: it always was there."""


# The hardware version is the newest that hosts older than the key's own release could run, plus
# one: vSphere 6.0 11, 6.5 13, 6.7 14, 7.0 17, 7.0 U1 18, 8.0 20, 8.0 U3 21, 9.0 22.
VMWARE: Final = (
    # Windows
    VmwareKey("win31", "win31Guest", None, 3),
    VmwareKey("win95", "win95Guest", None, 3),
    VmwareKey("win98", "win98Guest", None, 3),
    VmwareKey("winMe", "winMeGuest", None, 3),
    VmwareKey("winNT", "winNTGuest", None, 3),
    VmwareKey("win2000Pro", "win2000ProGuest", None, 3),
    VmwareKey("win2000Serv", "win2000ServGuest", None, 3),
    VmwareKey("win2000AdvServ", "win2000AdvServGuest", None, 3),
    VmwareKey("winXPHome", "winXPHomeGuest", None, 3),
    VmwareKey("winXPPro", "winXPProGuest", "winXPPro64Guest", 3),
    VmwareKey("winNetWeb", "winNetWebGuest", None, 3),
    VmwareKey("winNetStandard", "winNetStandardGuest", "winNetStandard64Guest", 3),
    VmwareKey("winNetEnterprise", "winNetEnterpriseGuest", "winNetEnterprise64Guest", 3),
    VmwareKey("winNetDatacenter", "winNetDatacenterGuest", "winNetDatacenter64Guest", 3),
    VmwareKey("winNetBusiness", "winNetBusinessGuest", None, 3),
    VmwareKey("winvista", "winVistaGuest", "winVista64Guest", 3),
    VmwareKey("longhorn", "winLonghornGuest", "winLonghorn64Guest", 3),
    VmwareKey("windows7", "windows7Guest", "windows7_64Guest", 7),
    VmwareKey("windows7srv", None, "windows7Server64Guest", 7),
    VmwareKey("windows8", "windows8Guest", "windows8_64Guest", 8),
    VmwareKey("windows8srv", None, "windows8Server64Guest", 8),
    VmwareKey("windows9", "windows9Guest", "windows9_64Guest", 11),
    VmwareKey("windows9srv", None, "windows9Server64Guest", 11),
    VmwareKey("windows2019srv", None, "windows2019srv_64Guest", 17),
    VmwareKey("windows2019srvNext", None, "windows2019srvNext_64Guest", 18),
    VmwareKey("windows2022srvNext", None, "windows2022srvNext_64Guest", 20),
    VmwareKey("windows11", None, "windows11_64Guest", 20),
    VmwareKey("windows12", None, "windows12_64Guest", 20),
    VmwareKey("winHyperV", "windowsHyperVGuest", None, 8),
    # Linux
    VmwareKey("redhat", "redhatGuest", None, 3),
    VmwareKey("rhel2", "rhel2Guest", None, 3),
    VmwareKey("rhel3", "rhel3Guest", "rhel3_64Guest", 3),
    VmwareKey("rhel4", "rhel4Guest", "rhel4_64Guest", 3),
    VmwareKey("rhel5", "rhel5Guest", "rhel5_64Guest", 3),
    VmwareKey("rhel6", "rhel6Guest", "rhel6_64Guest", 7),
    VmwareKey("rhel7", "rhel7Guest", "rhel7_64Guest", 10),
    VmwareKey("rhel8", None, "rhel8_64Guest", 14),
    VmwareKey("rhel9", None, "rhel9_64Guest", 18),
    VmwareKey("rhel10", None, "rhel10_64Guest", 22),
    VmwareKey("centos", "centosGuest", "centos64Guest", 7),
    VmwareKey("centos6", "centos6Guest", "centos6_64Guest", 13),
    VmwareKey("centos7", "centos7Guest", "centos7_64Guest", 13),
    VmwareKey("centos8", None, "centos8_64Guest", 14),
    VmwareKey("centos9", None, "centos9_64Guest", 18),
    VmwareKey("oraclelinux", "oracleLinuxGuest", "oracleLinux64Guest", 7),
    VmwareKey("oraclelinux6", "oracleLinux6Guest", "oracleLinux6_64Guest", 13),
    VmwareKey("oraclelinux7", "oracleLinux7Guest", "oracleLinux7_64Guest", 13),
    VmwareKey("oraclelinux8", None, "oracleLinux8_64Guest", 14),
    VmwareKey("oraclelinux9", None, "oracleLinux9_64Guest", 18),
    VmwareKey("oraclelinux10", None, "oracleLinux10_64Guest", 22),
    VmwareKey("rockylinux", None, "rockylinux_64Guest", 20),
    VmwareKey("almalinux", None, "almalinux_64Guest", 20),
    VmwareKey("fedora", "fedoraGuest", "fedora64Guest", 9),
    VmwareKey("coreos", None, "coreos64Guest", 11),
    VmwareKey("amazonlinux2", None, "amazonlinux2_64Guest", 14),
    VmwareKey("amazonlinux3", None, "amazonlinux3_64Guest", 18),
    VmwareKey("suse", "suseGuest", "suse64Guest", 3),
    VmwareKey("sles", "slesGuest", "sles64Guest", 3),
    VmwareKey("sles10", "sles10Guest", "sles10_64Guest", 3),
    VmwareKey("sles11", "sles11Guest", "sles11_64Guest", 7),
    VmwareKey("sles12", "sles12Guest", "sles12_64Guest", 10),
    VmwareKey("sles15", None, "sles15_64Guest", 14),
    VmwareKey("sles16", None, "sles16_64Guest", 18),
    VmwareKey("opensuse", "opensuseGuest", "opensuse64Guest", 8),
    VmwareKey("nld9", "nld9Guest", None, 3),
    VmwareKey("oes", "oesGuest", None, 3),
    VmwareKey("sjds", "sjdsGuest", None, 3),
    VmwareKey("mandrake", "mandrakeGuest", None, 3),
    VmwareKey("mandriva", "mandrivaGuest", "mandriva64Guest", 3),
    VmwareKey("turbolinux", "turboLinuxGuest", "turboLinux64Guest", 3),
    VmwareKey("ubuntu", "ubuntuGuest", "ubuntu64Guest", 3),
    VmwareKey("debian4", "debian4Guest", "debian4_64Guest", 7),
    VmwareKey("debian5", "debian5Guest", "debian5_64Guest", 7),
    VmwareKey("debian6", "debian6Guest", "debian6_64Guest", 8),
    VmwareKey("debian7", "debian7Guest", "debian7_64Guest", 10),
    VmwareKey("debian8", "debian8Guest", "debian8_64Guest", 11),
    VmwareKey("debian9", "debian9Guest", "debian9_64Guest", 13),
    VmwareKey("debian10", "debian10Guest", "debian10_64Guest", 13),
    VmwareKey("debian11", "debian11Guest", "debian11_64Guest", 17),
    VmwareKey("debian12", "debian12Guest", "debian12_64Guest", 20),
    VmwareKey("debian13", "debian13Guest", "debian13_64Guest", 22),
    VmwareKey("asianux3", "asianux3Guest", "asianux3_64Guest", 7),
    VmwareKey("asianux4", "asianux4Guest", "asianux4_64Guest", 7),
    VmwareKey("asianux5", None, "asianux5_64Guest", 11),
    VmwareKey("asianux7", None, "asianux7_64Guest", 13),
    VmwareKey("asianux8", None, "asianux8_64Guest", 14),
    VmwareKey("asianux9", None, "asianux9_64Guest", 18),
    VmwareKey("miraclelinux", None, "miraclelinux_64Guest", 22),
    VmwareKey("pardus", None, "pardus_64Guest", 22),
    VmwareKey("fusionos", None, "fusionos_64Guest", 22),
    VmwareKey("prolinux", None, "prolinux_64Guest", 22),
    VmwareKey("kylinlinux", None, "kylinlinux_64Guest", 22),
    VmwareKey("flatcar", None, "flatcar_64Guest", 22),
    VmwareKey("vmware-photon", None, "vmwarePhoton64Guest", 13),
    VmwareKey("other24xlinux", "other24xLinuxGuest", "other24xLinux64Guest", 3),
    VmwareKey("other26xlinux", "other26xLinuxGuest", "other26xLinux64Guest", 3),
    VmwareKey("other3xlinux", "other3xLinuxGuest", "other3xLinux64Guest", 10),
    VmwareKey("other4xlinux", "other4xLinuxGuest", "other4xLinux64Guest", 14),
    VmwareKey("other5xlinux", "other5xLinuxGuest", "other5xLinux64Guest", 18),
    VmwareKey("other6xlinux", "other6xLinuxGuest", "other6xLinux64Guest", 20),
    VmwareKey("other7xlinux", "other7xLinuxGuest", "other7xLinux64Guest", 22),
    VmwareKey("otherlinux", "otherLinuxGuest", "otherLinux64Guest", 3),
    VmwareKey("genericlinux", "genericLinuxGuest", None, 10),
    # BSD, Solaris, macOS
    VmwareKey("freeBSD", "freebsdGuest", "freebsd64Guest", 3),
    VmwareKey("freeBSD11", "freebsd11Guest", "freebsd11_64Guest", 14),
    VmwareKey("freeBSD12", "freebsd12Guest", "freebsd12_64Guest", 14),
    VmwareKey("freeBSD13", "freebsd13Guest", "freebsd13_64Guest", 18),
    VmwareKey("freeBSD14", "freebsd14Guest", "freebsd14_64Guest", 20),
    VmwareKey("freeBSD15", "freebsd15Guest", "freebsd15_64Guest", 22),
    VmwareKey("solaris6", "solaris6Guest", None, 3),
    VmwareKey("solaris7", "solaris7Guest", None, 3),
    VmwareKey("solaris8", "solaris8Guest", None, 3),
    VmwareKey("solaris9", "solaris9Guest", None, 3),
    VmwareKey("solaris10", "solaris10Guest", "solaris10_64Guest", 3),
    VmwareKey("solaris11", None, "solaris11_64Guest", 8),
    VmwareKey("darwin", "darwinGuest", "darwin64Guest", 3),
    VmwareKey("darwin10", "darwin10Guest", "darwin10_64Guest", 8),
    VmwareKey("darwin11", "darwin11Guest", "darwin11_64Guest", 8),
    VmwareKey("darwin12", None, "darwin12_64Guest", 10),
    VmwareKey("darwin13", None, "darwin13_64Guest", 10),
    VmwareKey("darwin14", None, "darwin14_64Guest", 11),
    VmwareKey("darwin15", None, "darwin15_64Guest", 13),
    VmwareKey("darwin16", None, "darwin16_64Guest", 13),
    VmwareKey("darwin17", None, "darwin17_64Guest", 14),
    VmwareKey("darwin18", None, "darwin18_64Guest", 14),
    VmwareKey("darwin19", None, "darwin19_64Guest", 17),
    VmwareKey("darwin20", None, "darwin20_64Guest", 18),
    VmwareKey("darwin21", None, "darwin21_64Guest", 18),
    VmwareKey("darwin22", None, "darwin22_64Guest", 20),
    VmwareKey("darwin23", None, "darwin23_64Guest", 20),
    # The rest
    VmwareKey("dos", "dosGuest", None, 3),
    VmwareKey("os2", "os2Guest", None, 3),
    VmwareKey("eComStation", "eComStationGuest", None, 7),
    VmwareKey("eComStation2", "eComStation2Guest", None, 8),
    VmwareKey("netware4", "netware4Guest", None, 3),
    VmwareKey("netware5", "netware5Guest", None, 3),
    VmwareKey("netware6", "netware6Guest", None, 3),
    VmwareKey("openserver5", "openServer5Guest", None, 3),
    VmwareKey("openserver6", "openServer6Guest", None, 3),
    VmwareKey("unixware7", "unixWare7Guest", None, 3),
    VmwareKey("vmkernel", "vmkernelGuest", None, 8),
    VmwareKey("vmkernel5", "vmkernel5Guest", None, 8),
    VmwareKey("vmkernel6", "vmkernel6Guest", None, 11),
    VmwareKey("vmkernel65", "vmkernel65Guest", None, 13),
    VmwareKey("vmkernel7", "vmkernel7Guest", None, 17),
    VmwareKey("vmkernel8", "vmkernel8Guest", None, 20),
    VmwareKey("vmkernel9", "vmkernel9Guest", None, 22),
    VmwareKey("other", "otherGuest", "otherGuest64", 3),
)

GENERIC_LINUX: Final = frozenset({"otherlinux", "genericlinux", "Linux"})
"""Names that say that it is a Linux, and no more."""

GENERIC_LINUX_YEARS: Final[dict[Version, str]] = {
    (4,): "http://libosinfo.org/linux/2018",
    (5,): "http://libosinfo.org/linux/2020",
    (6,): "http://libosinfo.org/linux/2022",
}
"""libosinfo's generic systems, by the major version of the kernel."""

CIM_KERNELS: Final[dict[Version, tuple[int, int]]] = {(2, 4): (97, 98), (2, 6): (99, 100)}
"""CIM OSTypes of kernels that have one of their own, 32-bit and 64-bit."""

VMX_ALIASES: Final = {
    "nt4": "winNT",
    "win2000": "win2000Pro",
    "whistler": "winXPHome",
    "linux": "otherlinux",
    "mandrake-64": "mandriva-64",
    "os2experimental": "os2",
}
"""Keys that VMware reads but no longer writes, and what it takes them for."""


class Span(NamedTuple):
    """The versions of a product, both ends included, that one name of some vocabulary covers."""

    first: Version
    last: Version | None
    """None: and all later ones."""
    name: str


def each(stem: str, *majors: int) -> tuple[Span, ...]:
    """A span for each major version: ``debian12`` covers 12 and 12.x, and nothing else."""
    return tuple(Span((major,), (major,), f"{stem}{major}") for major in majors)


def all_as(name: str) -> tuple[Span, ...]:
    """One name that covers every version."""
    return (Span((), None, name),)


class Product(NamedTuple):
    """An operating system in all its versions, and its names in each vocabulary."""

    name: str
    family: Family
    osinfo: str
    """The part of its libosinfo URLs between ``http://`` and the version."""
    short: str
    """What its short ids begin with."""
    vmware: tuple[Span, ...] = ()
    virtualbox: tuple[Span, ...] = ()
    cim: tuple[int, int] = (1, 102)
    """CIM OSType, 32-bit and 64-bit."""
    like: str | None = None
    """The `short` of the product that it is built from, version for version."""
    rolling: str | None = None
    """It has no versions: what its libosinfo id has in place of one."""
    calendar: bool = False
    """Its versions are a year and a month of two digits: ``22.04``."""


_KERNELS: Final = (
    Span((), (2, 4), "other24xlinux"),
    Span((2, 6), (2, 6), "other26xlinux"),
    Span((3,), (3,), "other3xlinux"),
    Span((4,), (4,), "other4xlinux"),
    Span((5,), (5,), "other5xlinux"),
    Span((6,), (6,), "other6xlinux"),
    Span((7,), None, "other7xlinux"),
)
_REDHAT: Final = (
    Span((), (2,), "RedHat"),
    *each("RedHat", 3, 4, 5, 6, 7, 8, 9, 10),
)
_LINUX: Final = (36, 101)
_CURRENT: Final = all_as("other6xlinux")
_LINUX26: Final = all_as("Linux26")

LINUX: Final = (
    Product("Debian", Family.LINUX, "debian.org/debian", "debian",
            each("debian", 4, 5, 6, 7, 8, 9, 10, 11, 12, 13),
            (Span((3,), (3,), "Debian31"), *each("Debian", 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)),
            (95, 96)),
    Product("Ubuntu", Family.LINUX, "ubuntu.com/ubuntu", "ubuntu", all_as("ubuntu"), (
        Span((), (9,), "Ubuntu"),
        Span((10, 4), (10, 4), "Ubuntu10_LTS"), Span((10, 10), (10, 10), "Ubuntu10"),
        Span((11,), (11,), "Ubuntu11"),
        Span((12, 4), (12, 4), "Ubuntu12_LTS"), Span((12, 10), (12, 10), "Ubuntu12"),
        Span((13,), (13,), "Ubuntu13"),
        Span((14, 4), (14, 4), "Ubuntu14_LTS"), Span((14, 10), (14, 10), "Ubuntu14"),
        Span((15,), (15,), "Ubuntu15"),
        Span((16, 4), (16, 4), "Ubuntu16_LTS"), Span((16, 10), (16, 10), "Ubuntu16"),
        Span((17,), (17,), "Ubuntu17"),
        Span((18, 4), (18, 4), "Ubuntu18_LTS"), Span((18, 10), (18, 10), "Ubuntu18"),
        Span((19,), (19,), "Ubuntu19"),
        Span((20, 4), (20, 4), "Ubuntu20_LTS"), Span((20, 10), (20, 10), "Ubuntu20"),
        Span((21,), (21,), "Ubuntu21"),
        Span((22, 4), (22, 4), "Ubuntu22_LTS"), Span((22, 10), (22, 10), "Ubuntu22"),
        Span((23, 4), (23, 4), "Ubuntu23"), Span((23, 10), (23, 10), "Ubuntu231"),
        Span((24, 4), (24, 4), "Ubuntu24_LTS"), Span((24, 10), (24, 10), "Ubuntu24"),
        Span((25, 4), (25, 4), "Ubuntu25"),
    ), (93, 94), calendar=True),
    Product("Red Hat Enterprise Linux", Family.LINUX, "redhat.com/rhel", "rhel",
            each("rhel", 2, 3, 4, 5, 6, 7, 8, 9, 10), _REDHAT, (79, 80)),
    Product("Red Hat Enterprise Linux Atomic Host", Family.LINUX, "redhat.com/rhel-atomic",
            "rhel-atomic-", each("rhel", 7), _REDHAT, (79, 80), like="rhel"),
    Product("Red Hat Linux", Family.LINUX, "redhat.com/rhl", "rhl",
            all_as("redhat"), all_as("RedHat"), _LINUX),
    Product("CentOS", Family.LINUX, "centos.org/centos", "centos",
            (Span((), (5,), "centos"), *each("centos", 6, 7, 8, 9)), _REDHAT, (106, 107),
            like="rhel"),
    Product("CentOS Stream", Family.LINUX, "centos.org/centos-stream", "centos-stream",
            each("centos", 8, 9), _REDHAT, (106, 107), like="rhel"),
    Product("Rocky Linux", Family.LINUX, "rockylinux.org/rocky", "rocky",
            all_as("rockylinux"), _REDHAT, _LINUX, like="rhel"),
    Product("AlmaLinux", Family.LINUX, "almalinux.org/almalinux", "almalinux",
            all_as("almalinux"), _REDHAT, _LINUX, like="rhel"),
    Product("Oracle Linux", Family.LINUX, "oracle.com/ol", "ol",
            (Span((), (5,), "oraclelinux"), *each("oraclelinux", 6, 7, 8, 9, 10)),
            (Span((), (3,), "Oracle"), *each("Oracle", 4, 5, 6, 7, 8, 9, 10)), (108, 109),
            like="rhel"),
    Product("Oracle Enterprise Linux", Family.LINUX, "oracle.com/oel", "oel",
            all_as("oraclelinux"), each("Oracle", 4, 5), (108, 109), like="rhel"),
    Product("Scientific Linux", Family.LINUX, "scientificlinux.org/scientificlinux",
            "scientificlinux", (), _REDHAT, _LINUX, like="rhel"),
    Product("Circle Linux", Family.LINUX, "cclinux.org/circle", "circle", (), _REDHAT, _LINUX,
            like="rhel"),
    Product("Fedora", Family.LINUX, "fedoraproject.org/fedora", "fedora",
            all_as("fedora"), all_as("Fedora"), _LINUX),
    Product("Fedora Silverblue", Family.LINUX, "fedoraproject.org/silverblue", "silverblue",
            all_as("fedora"), all_as("Fedora"), _LINUX, like="fedora"),
    Product("Fedora CoreOS", Family.LINUX, "fedoraproject.org/coreos", "fedora-coreos-",
            all_as("fedora"), all_as("Fedora"), _LINUX, like="fedora"),
    Product("Amazon Linux", Family.LINUX, "amazon.com/amazonlinux", "amazonlinux",
            (Span((2,), (2,), "amazonlinux2"), Span((2022,), (2023,), "amazonlinux3")),
            _LINUX26, _LINUX),
    Product("SUSE Linux Enterprise Server", Family.LINUX, "suse.com/sles", "sles",
            (Span((), (9,), "sles"), *each("sles", 10, 11, 12, 15, 16)), all_as("SUSE_LE"),
            (84, 85)),
    Product("SUSE Linux Enterprise", Family.LINUX, "suse.com/sle", "sle",
            each("sles", 15, 16), all_as("SUSE_LE"), (84, 85), like="sles"),
    Product("SUSE Linux Enterprise Desktop", Family.LINUX, "suse.com/sled", "sled",
            (Span((), (9,), "sles"), *each("sles", 10, 11, 12)), all_as("SUSE_LE"), (84, 85),
            like="sles"),
    Product("SUSE Linux Enterprise Micro", Family.LINUX, "suse.com/slem", "slem",
            (Span((5,), (6,), "sles15"),), all_as("SUSE_LE"), (84, 85)),
    Product("openSUSE", Family.LINUX, "opensuse.org/opensuse", "opensuse", all_as("opensuse"),
            (Span((), (13,), "OpenSUSE"), Span((15,), None, "OpenSUSE_Leap")), (82, 83)),
    Product("openSUSE Tumbleweed", Family.LINUX, "opensuse.org/opensuse/tumbleweed",
            "opensusetumbleweed", all_as("opensuse"), all_as("OpenSUSE_Tumbleweed"), (82, 83),
            rolling=""),
    Product("Alpine Linux", Family.LINUX, "alpinelinux.org/alpinelinux", "alpinelinux", (
        Span((), (3, 3), "other3xlinux"), Span((3, 4), (3, 10), "other4xlinux"),
        Span((3, 11), (3, 17), "other5xlinux"), Span((3, 18), None, "other6xlinux"),
    ), _LINUX26, _LINUX),
    Product("Arch Linux", Family.LINUX, "archlinux.org/archlinux", "archlinux", _CURRENT,
            all_as("ArchLinux"), _LINUX, rolling="rolling"),
    Product("Manjaro", Family.LINUX, "manjaro.org/manjaro", "manjaro", _CURRENT,
            all_as("ArchLinux"), _LINUX, rolling="rolling"),
    Product("Gentoo", Family.LINUX, "gentoo.org/gentoo", "gentoo", _CURRENT, all_as("Gentoo"),
            _LINUX, rolling="rolling"),
    Product("Void Linux", Family.LINUX, "voidlinux.org/voidlinux", "voidlinux", _CURRENT,
            _LINUX26, _LINUX, rolling="rolling"),
    Product("NixOS", Family.LINUX, "nixos.org/nixos", "nixos", _CURRENT, _LINUX26, _LINUX,
            calendar=True),
    Product("Clear Linux", Family.LINUX, "clearlinux.org/clearlinux", "clearlinux", _CURRENT,
            _LINUX26, _LINUX, rolling="rolling"),
    Product("Slackware", Family.LINUX, "slackware.com/slackware", "slackware",
            (Span((), (14,), "other4xlinux"), Span((15,), None, "other5xlinux")),
            _LINUX26, _LINUX),
    Product("Mageia", Family.LINUX, "mageia.org/mageia", "mageia",
            (Span((), (5,), "other3xlinux"), Span((6,), (7,), "other4xlinux"),
             Span((8,), (8,), "other5xlinux"), Span((9,), None, "other6xlinux")),
            all_as("Mageia"), _LINUX),
    Product("Mandriva Linux", Family.LINUX, "mandriva.com/mandriva", "mandriva",
            all_as("mandriva"), all_as("Mandriva"), (89, 90)),
    Product("Mandrake Linux", Family.LINUX, "mandriva.com/mandrake", "mandrake",
            all_as("mandrake"), all_as("Mandriva"), (89, 90)),
    Product("Asianux", Family.LINUX, "asianux.com/asianux", "asianux",
            each("asianux", 3, 4, 5, 7, 8, 9), _REDHAT, _LINUX, like="rhel"),
    Product("MIRACLE LINUX", Family.LINUX, "miraclelinux.com/miraclelinux", "miraclelinux",
            all_as("miraclelinux"), _REDHAT, _LINUX, like="rhel"),
    Product("EuroLinux", Family.LINUX, "euro-linux.com/eurolinux", "eurolinux", (), (), (79, 80),
            like="rhel"),
    Product("Anolis OS", Family.LINUX, "openanolis.cn/anolis", "anolis",
            (Span((), (7,), "other3xlinux"), Span((8,), (8,), "other4xlinux"),
             Span((23,), None, "other5xlinux")), _LINUX26, _LINUX),
    Product("Photon OS", Family.LINUX, "vmware.com/photon", "photon", all_as("vmware-photon"),
            _LINUX26, _LINUX),
    Product("Pop!_OS", Family.LINUX, "system76.com/popos", "popos", (), (), (93, 94),
            like="ubuntu", calendar=True),
    Product("Univention Corporate Server", Family.LINUX, "univention.de/ucs", "ucs",
            (Span((4,), (4,), "debian9"), Span((5,), (5,), "debian10")),
            (Span((4,), (4,), "Debian9"), Span((5,), (5,), "Debian10")), (95, 96)),
    Product("ALT Linux", Family.LINUX, "altlinux.org/altlinux", "altlinux",
            all_as("other3xlinux"), _LINUX26, _LINUX),
    Product("ALT", Family.LINUX, "altlinux.org/alt", "alt",
            (Span((), (9,), "other4xlinux"), Span((10,), (10,), "other5xlinux"),
             Span((11,), None, "other6xlinux")), _LINUX26, _LINUX),
    Product("CirrOS", Family.LINUX, "cirros-cloud.net/cirros", "cirros",
            (Span((), (0, 3), "other3xlinux"), Span((0, 4), (0, 4), "other4xlinux"),
             Span((0, 5), None, "other5xlinux")), _LINUX26, _LINUX),
    Product("Android-x86", Family.LINUX, "android-x86.org/android-x86", "android-x86-",
            all_as("other4xlinux"), _LINUX26, _LINUX),
    Product("elementary OS", Family.LINUX, "elementary.io/elementary", "elementary",
            all_as("ubuntu"), all_as("Ubuntu"), (93, 94)),
    Product("Endless OS", Family.LINUX, "endlessos.com/eos", "eos",
            (Span((), (3,), "other4xlinux"), Span((4,), None, "other5xlinux")),
            _LINUX26, _LINUX),
    Product("PureOS", Family.LINUX, "pureos.net/pureos", "pureos",
            (Span((8,), (8,), "debian9"), Span((9,), (9,), "debian10"),
             Span((10,), (10,), "debian11")), all_as("Debian"), (95, 96)),
    Product("Trisquel", Family.LINUX, "trisquel.info/trisquel", "trisquel", all_as("ubuntu"),
            all_as("Ubuntu"), (93, 94)),
    Product("GNU Guix System", Family.LINUX, "guix.gnu.org/guix", "guix", _CURRENT, _LINUX26,
            _LINUX),
    Product("SUSE CaaS Platform", Family.LINUX, "suse.com/caasp", "caasp", all_as("sles12"),
            all_as("SUSE_LE"), (84, 85)),
    Product("Generic Linux", Family.LINUX, "libosinfo.org/linux", "linux", (
        Span((), (2018,), "other4xlinux"), Span((2020,), (2022,), "other5xlinux"),
        Span((2024,), None, "other6xlinux"),
    ), _LINUX26, _LINUX),
    Product("Linux", Family.LINUX, "kernel.org/linux", "kernel", _KERNELS,
            (Span((), (2, 2), "Linux22"), Span((2, 4), (2, 4), "Linux24"),
             Span((2, 6), None, "Linux26")), _LINUX),
)  # fmt: skip

WINDOWS: Final = (
    Product("Windows", Family.WINDOWS, "microsoft.com/win", "win", (
        Span((1985,), (1994,), "win31"), Span((1995,), (1995,), "win95"),
        Span((1998,), (1998,), "win98"), Span((2000, 1), (2000, 1), "win2000Pro"),
        Span((2000, 2), (2000, 2), "winMe"), Span((2001,), (2001,), "winXPPro"),
        Span((2006,), (2006,), "winvista"), Span((2009,), (2009,), "windows7"),
        Span((2012,), (2013,), "windows8"), Span((2015,), (2015,), "windows9"),
        Span((2021,), (2021,), "windows11"),
    ), (
        Span((1985,), (1994,), "Windows31"), Span((1995,), (1995,), "Windows95"),
        Span((1998,), (1998,), "Windows98"), Span((2000, 1), (2000, 1), "Windows2000"),
        Span((2000, 2), (2000, 2), "WindowsMe"), Span((2001,), (2001,), "WindowsXP"),
        Span((2006,), (2006,), "WindowsVista"), Span((2009,), (2009,), "Windows7"),
        Span((2012,), (2012,), "Windows8"), Span((2013,), (2013,), "Windows81"),
        Span((2015,), (2015,), "Windows10"), Span((2021,), (2021,), "Windows11"),
    )),
    Product("Windows NT", Family.WINDOWS, "microsoft.com/winnt", "winnt", all_as("winNT"), (
        Span((3,), (3,), "WindowsNT3x"), Span((4,), (4,), "WindowsNT4"),
    ), (18, 18)),
    Product("Windows Server", Family.WINDOWS, "microsoft.com/win/2k", "win2k", (
        Span((2003,), (2003,), "winNetStandard"), Span((2008, 1), (2008, 1), "longhorn"),
        Span((2008, 2), (2008, 2), "windows7srv"), Span((2012,), (2012,), "windows8srv"),
        Span((2016,), (2016,), "windows9srv"), Span((2019,), (2019,), "windows2019srv"),
        Span((2022,), (2022,), "windows2019srvNext"),
        Span((2025,), (2025,), "windows2022srvNext"),
    ), (
        Span((2003,), (2003,), "Windows2003"), Span((2008,), (2008,), "Windows2008"),
        Span((2012,), (2012,), "Windows2012"), Span((2016,), (2016,), "Windows2016"),
        Span((2019,), (2019,), "Windows2019"), Span((2022,), (2022,), "Windows2022"),
        Span((2025,), (2025,), "Windows2025"),
    )),
)  # fmt: skip

OTHERS: Final = (
    Product("FreeBSD", Family.BSD, "freebsd.org/freebsd", "freebsd",
            (Span((), (10,), "freeBSD"), *each("freeBSD", 11, 12, 13, 14, 15)),
            all_as("FreeBSD"), (42, 78)),
    Product("OpenBSD", Family.BSD, "openbsd.org/openbsd", "openbsd", (), all_as("OpenBSD"),
            (65, 65)),
    Product("NetBSD", Family.BSD, "netbsd.org/netbsd", "netbsd", (), all_as("NetBSD"), (43, 43)),
    Product("DragonFly BSD", Family.BSD, "dragonflybsd.org/dragonflybsd", "dragonflybsd", (),
            all_as("FreeBSD"), (41, 41)),
    Product("Solaris", Family.SOLARIS, "sun.com/solaris", "solaris",
            (Span((), (6,), "solaris6"), *each("solaris", 7, 8, 9, 10)), all_as("Solaris"),
            (29, 81)),
    Product("Solaris", Family.SOLARIS, "oracle.com/solaris", "solaris", each("solaris", 11),
            each("Solaris", 11), (29, 81)),
    Product("OpenSolaris", Family.SOLARIS, "sun.com/opensolaris", "opensolaris",
            all_as("solaris11"), all_as("OpenSolaris"), (29, 81)),
    Product("macOS", Family.DARWIN, "apple.com/macosx", "macosx", (
        Span((), (10, 5), "darwin"), Span((10, 6), (10, 6), "darwin10"),
        Span((10, 7), (10, 7), "darwin11"), Span((10, 8), (10, 8), "darwin12"),
        Span((10, 9), (10, 9), "darwin13"), Span((10, 10), (10, 10), "darwin14"),
        Span((10, 11), (10, 11), "darwin15"), Span((10, 12), (10, 12), "darwin16"),
        Span((10, 13), (10, 13), "darwin17"), Span((10, 14), (10, 14), "darwin18"),
        Span((10, 15), (10, 15), "darwin19"), Span((11,), (11,), "darwin20"),
        Span((12,), (12,), "darwin21"), Span((13,), (13,), "darwin22"),
        Span((14,), (14,), "darwin23"),
    ), (
        Span((), (10, 5), "MacOS"), Span((10, 6), (10, 6), "MacOS106"),
        Span((10, 7), (10, 7), "MacOS107"), Span((10, 8), (10, 8), "MacOS108"),
        Span((10, 9), (10, 9), "MacOS109"), Span((10, 10), (10, 10), "MacOS1010"),
        Span((10, 11), (10, 11), "MacOS1011"), Span((10, 12), (10, 12), "MacOS1012"),
        Span((10, 13), (10, 13), "MacOS1013"),
    ), (2, 2)),
    Product("MS-DOS", Family.OTHER, "microsoft.com/msdos", "msdos", all_as("dos"), all_as("DOS"),
            (14, 14)),
    Product("FreeDOS", Family.OTHER, "freedos.org/freedos", "freedos", all_as("dos"),
            all_as("DOS"), (14, 14)),
    Product("NetWare", Family.OTHER, "novell.com/netware", "netware", each("netware", 4, 5, 6),
            all_as("Netware"), (21, 21)),
    Product("Haiku", Family.OTHER, "haiku-os.org/haiku", "haiku"),
    Product("ESXi", Family.OTHER, "vmware.com/esxi", "esxi", (
        Span((4,), (4,), "vmkernel"), Span((5,), (5,), "vmkernel5"),
        Span((6, 0), (6, 0), "vmkernel6"), Span((6, 5), (6, 7), "vmkernel65"),
        Span((7,), (7,), "vmkernel7"), Span((8,), (8,), "vmkernel8"),
        Span((9,), None, "vmkernel9"),
    ), (), (104, 104)),
    Product("Other operating system", Family.OTHER, "libosinfo.org/unknown", "unknown",
            all_as("other"), all_as("Other")),
)  # fmt: skip

PRODUCTS: Final = (*LINUX, *WINDOWS, *OTHERS)


class WindowsRelease(NamedTuple):
    """A release of Windows: osinfo's version, ours, what people call it, and its CIM OSType."""

    version: Version
    name: str
    cim: tuple[int, int]
    cim_exact: bool = True
    """False: the id is that of the nearest older release whose id all products read alike."""


WINDOWS_CLIENTS: Final = {
    "1.0": WindowsRelease((1985,), "Windows 1.0", (15, 15), False),
    "2.0": WindowsRelease((1987,), "Windows 2.0", (15, 15), False),
    "2.1": WindowsRelease((1988,), "Windows 2.1", (15, 15), False),
    "3.1": WindowsRelease((1992,), "Windows 3.1", (15, 15)),
    "95": WindowsRelease((1995,), "Windows 95", (16, 16)),
    "98": WindowsRelease((1998,), "Windows 98", (17, 17)),
    "2k": WindowsRelease((2000, 1), "Windows 2000", (58, 58)),
    "me": WindowsRelease((2000, 2), "Windows ME", (63, 63)),
    "xp": WindowsRelease((2001,), "Windows XP", (67, 71)),
    "vista": WindowsRelease((2006,), "Windows Vista", (73, 74)),
    "7": WindowsRelease((2009,), "Windows 7", (105, 105)),
    "8": WindowsRelease((2012,), "Windows 8", (113, 113)),
    "8.1": WindowsRelease((2013,), "Windows 8.1", (113, 113), False),
    "10": WindowsRelease((2015,), "Windows 10", (119, 120)),
    "11": WindowsRelease((2021,), "Windows 11", (119, 120), False),
}
"""By osinfo's version, in the order of their release."""

WINDOWS_SERVERS: Final = {
    "2k3": WindowsRelease((2003, 1), "Windows Server 2003", (69, 70)),
    "2k3r2": WindowsRelease((2003, 2), "Windows Server 2003 R2", (69, 70), False),
    "2k8": WindowsRelease((2008, 1), "Windows Server 2008", (76, 77)),
    "2k8r2": WindowsRelease((2008, 2), "Windows Server 2008 R2", (103, 103)),
    "2k12": WindowsRelease((2012, 1), "Windows Server 2012", (112, 112)),
    "2k12r2": WindowsRelease((2012, 2), "Windows Server 2012 R2", (115, 115)),
    "2k16": WindowsRelease((2016,), "Windows Server 2016", (115, 115), False),
    "2k19": WindowsRelease((2019,), "Windows Server 2019", (115, 115), False),
    "2k22": WindowsRelease((2022,), "Windows Server 2022", (115, 115), False),
    "2k25": WindowsRelease((2025,), "Windows Server 2025", (115, 115), False),
}

VIRTUALBOX_32_ONLY: Final = frozenset(
    {"Debian31", "DOS", "Linux22", "Netware", "Windows31", "Windows95", "Windows98", "Windows2000",
     "WindowsMe", "WindowsNT3x", "WindowsNT4"}
)  # fmt: skip
VIRTUALBOX_64_ONLY: Final = frozenset(
    {"Debian13", "OpenSUSE_Leap", "Oracle10", "Oracle7", "Oracle8", "Oracle9", "RedHat10",
     "RedHat7", "RedHat8", "RedHat9", "Solaris11", "Ubuntu20_LTS", "Ubuntu20", "Ubuntu21",
     "Ubuntu22_LTS", "Ubuntu22", "Ubuntu23", "Ubuntu231", "Ubuntu24_LTS", "Ubuntu24", "Ubuntu25",
     "Windows2012", "Windows2016", "Windows2019", "Windows2022", "Windows2025", "Windows11",
     "MacOS107", "MacOS108", "MacOS109", "MacOS1010", "MacOS1011", "MacOS1012", "MacOS1013"}
)  # fmt: skip

CIM_NAMES: Final = {
    0: "Unknown", 1: "Other", 2: "MACOS", 12: "OS/2", 14: "MSDOS", 15: "WIN3x", 16: "WIN95",
    17: "WIN98", 18: "WINNT", 21: "NetWare", 25: "SCO UnixWare", 26: "SCO OpenServer",
    29: "Solaris", 36: "LINUX", 41: "BSDUNIX", 42: "FreeBSD", 43: "NetBSD", 58: "Windows 2000",
    63: "Windows (R) Me", 65: "OpenBSD", 67: "Windows XP", 69: "Microsoft Windows Server 2003",
    70: "Microsoft Windows Server 2003 64-Bit", 71: "Windows XP 64-Bit", 73: "Windows Vista",
    74: "Windows Vista 64-Bit", 76: "Microsoft Windows Server 2008",
    77: "Microsoft Windows Server 2008 64-Bit", 78: "FreeBSD 64-Bit",
    79: "RedHat Enterprise Linux", 80: "RedHat Enterprise Linux 64-Bit", 81: "Solaris 64-Bit",
    82: "SUSE", 83: "SUSE 64-Bit", 84: "SLES", 85: "SLES 64-Bit", 86: "Novell OES",
    87: "Novell Linux Desktop", 88: "Sun Java Desktop System", 89: "Mandriva",
    90: "Mandriva 64-Bit", 91: "TurboLinux", 92: "TurboLinux 64-Bit", 93: "Ubuntu",
    94: "Ubuntu 64-Bit", 95: "Debian", 96: "Debian 64-Bit", 97: "Linux 2.4.x",
    98: "Linux 2.4.x 64-Bit", 99: "Linux 2.6.x", 100: "Linux 2.6.x 64-Bit", 101: "Linux 64-Bit",
    102: "Other 64-Bit", 103: "Microsoft Windows Server 2008 R2", 104: "VMware ESXi",
    105: "Microsoft Windows 7", 106: "CentOS 32-bit", 107: "CentOS 64-bit",
    108: "Oracle Linux 32-bit", 109: "Oracle Linux 64-bit", 110: "eComStation 32-bitx",
    111: "Microsoft Windows Server 2011", 112: "Microsoft Windows Server 2012",
    113: "Microsoft Windows 8", 114: "Microsoft Windows 8 64-bit",
    115: "Microsoft Windows Server 2012 R2", 116: "Microsoft Windows Server 2016",
    117: "Microsoft Windows 8.1", 118: "Microsoft Windows 8.1 64-bit",
    119: "Microsoft Windows 10", 120: "Microsoft Windows 10 64-bit",
}  # fmt: skip
"""CIM_OperatingSystem.OSType; those that no hypervisor here runs are left out."""

CIM_DISPUTED: Final = {
    114: ("Microsoft Windows 8 64-bit", "Microsoft Windows 8.1"),
    116: ("Microsoft Windows Server 2016", "Microsoft Windows 8.1"),
    117: ("Microsoft Windows 8.1", "Microsoft Windows 8.1 64-bit"),
    118: ("Microsoft Windows 8.1 64-bit", "Microsoft Windows Server 2016"),
}
"""Ids that different products read differently: all the meanings that are in use."""
