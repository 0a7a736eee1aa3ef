"""One guest operating system in the words of libosinfo, VMware, VirtualBox and CIM.

`identify` finds out which system a descriptor means, from whichever ids it states; `for_vmware`,
`for_virtualbox` and `for_cim` name it for a target.  Every answer says how well it fits: no target
knows every system, and where one does not, the nearest that it knows stands in, with the reason.
All functions are pure; the facts are in `guest_os_table`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from vmport_formats.machine.guest_os_table import (
    CIM_DISPUTED,
    CIM_KERNELS,
    CIM_NAMES,
    GENERIC_LINUX,
    GENERIC_LINUX_YEARS,
    PRODUCTS,
    VIRTUALBOX_32_ONLY,
    VIRTUALBOX_64_ONLY,
    VMWARE,
    VMX_ALIASES,
    WINDOWS_CLIENTS,
    WINDOWS_SERVERS,
    Family,
    Product,
    Span,
    Version,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vmport_formats.machine.guest_os_table import VmwareKey, WindowsRelease
    from vmport_formats.machine.model import GuestOs

Id = TypeVar("Id")


class Fit(StrEnum):
    """How well a name fits a system."""

    EXACT = "exact"
    """It means this system and no other (point releases apart)."""
    COARSE = "coarse"
    """It means this system and others too."""
    SUBSTITUTE = "substitute"
    """It means another system: the nearest one that has a name."""


@dataclass(frozen=True, slots=True)
class Name(Generic[Id]):
    """What a system is called somewhere, and how well that fits."""

    id: Id
    fit: Fit
    why: str = ""
    """A clause for a reader of the ledger; empty when the fit is exact."""


@dataclass(frozen=True, slots=True)
class System:
    """A guest operating system."""

    product: Product
    version: Version
    """Empty: not known, or the product rolls on without versions."""
    bits: int
    """32 or 64."""
    name: str
    """For a person: ``Debian 12``, ``Windows Server 2012 R2``."""
    osinfo: str | None
    """Its libosinfo id, ``http://debian.org/debian/12``; None when the version is not known."""

    @property
    def family(self) -> Family:
        """What kind of kernel it runs."""
        return self.product.family


@dataclass(frozen=True, slots=True)
class VmwareGuest:
    """A system as VMware names it."""

    key: str
    """VMX ``guestOS``: ``debian12-64``."""
    id: str
    """vSphere ``guestId`` and OVF ``vmw:osType``: ``debian12_64Guest``."""
    bits: int
    hardware: int
    """Lowest virtual hardware version of which every host knows the name."""


# --- What a target calls it ---------------------------------------------------------------------


def for_vmware(
    guest: GuestOs | None, *, bits: int, hardware: int | None = None
) -> Name[VmwareGuest]:
    """VMware's name for the guest that a machine states.

    With `hardware`, the version of the virtual hardware, only names are given that every host
    knows which can run that hardware; a host takes a guest whose name it does not know for a
    32-bit system of no particular kind.  A machine that states VMware's own name keeps it.
    """
    for text in () if guest is None else (guest.vmware, guest.vsphere):
        if text is not None and (row := vmware_guest(text)) is not None:
            return Name(row, Fit.EXACT)
    found = identify(guest, bits=bits)
    if found is None:
        row = _VMWARE_GUESTS["other" if bits == 32 else "other-64"]
        return Name(row, Fit.SUBSTITUTE, _nothing_known(guest))
    return _worse(found, _vmware(found.id, hardware))


def for_virtualbox(guest: GuestOs | None, *, bits: int) -> Name[str]:
    """VirtualBox's type for the guest that a machine states: ``Debian12_64``."""
    if guest is not None and guest.virtualbox is not None:
        return Name(guest.virtualbox, Fit.EXACT)
    found = identify(guest, bits=bits)
    if found is None:
        return Name("Other" if bits == 32 else "Other_64", Fit.SUBSTITUTE, _nothing_known(guest))
    return _worse(found, _virtualbox(found.id))


def for_cim(guest: GuestOs | None, *, bits: int) -> Name[int]:
    """The CIM OSType for the guest that a machine states, of those that all products read alike."""
    found = identify(guest, bits=bits)
    if found is None:
        if guest is not None and guest.cim is not None and 0 <= guest.cim < 1 << 16:
            return Name(guest.cim, Fit.EXACT)
        return Name(1 if bits == 32 else 102, Fit.SUBSTITUTE, _nothing_known(guest))
    return _worse(found, _cim(found.id))


def describe(guest: GuestOs | None, *, bits: int) -> str:
    """The guest's system in words: ``Debian 12 (64-bit)``."""
    if guest is not None and guest.description is not None:
        return guest.description
    found = identify(guest, bits=bits)
    name = "Other operating system" if found is None else found.id.name
    return f"{name} ({bits if found is None else found.id.bits}-bit)"


def version_text(guest: GuestOs | None, *, bits: int) -> str | None:
    """The version that goes with the CIM OSType, ``12`` or ``22.04``; None where there is none."""
    if guest is None or guest.version is not None:
        return None if guest is None else guest.version
    found = identify(guest, bits=bits)
    if found is None or not found.id.version or found.id.family is Family.WINDOWS:
        return None
    return found.id.name.removeprefix(found.id.product.name).strip()


# --- Which system it is -------------------------------------------------------------------------


def identify(guest: GuestOs | None, *, bits: int) -> Name[System] | None:
    """The system that a descriptor states; None when it states none that vmport knows.

    The most telling id counts: libosinfo's, then VMware's, then VirtualBox's, then CIM's, which
    is the coarsest and in part disputed.
    """
    if guest is None:
        return None
    ways: tuple[Name[System] | None, ...] = (
        None if guest.osinfo is None else from_osinfo(guest.osinfo, bits=bits),
        None if guest.vmware is None else from_vmware(guest.vmware),
        None if guest.vsphere is None else from_vmware(guest.vsphere),
        None if guest.virtualbox is None else from_virtualbox(guest.virtualbox),
        None if guest.cim is None else from_cim(guest.cim, bits=bits),
    )
    return next((found for found in ways if found is not None), None)


def from_osinfo(osinfo: str, *, bits: int) -> Name[System] | None:
    """The system with this libosinfo id: ``http://debian.org/debian/12``, or short ``debian12``.

    A version newer than the table is understood too, as long as its product is known.
    """
    text = osinfo.strip().lower()
    place = re.sub(r"^https?://", "", text)
    if place != text:
        for product in _BY_OSINFO:
            if place == product.osinfo or place.startswith(f"{product.osinfo}/"):
                return _spelled(product, place[len(product.osinfo) :].strip("/"), bits)
        return None
    for product in _BY_SHORT_ID:
        if text.startswith(product.short):
            rest = text.removeprefix(product.short)
            if re.fullmatch(r"[0-9.]*(r2|sp[0-9]+)?(-?[a-z]*)?", rest):
                return _spelled(product, rest.strip("-"), bits)
    return None


def from_vmware(text: str) -> Name[System] | None:
    """The system with this VMX ``guestOS`` or vSphere ``guestId``, in any case.

    Where VMware has one name for several, the newest that is out stands for all (a coarse fit).
    """
    row = vmware_guest(text)
    if row is None:
        return None
    return _named(row.key.removesuffix("-64"), row.bits, row.key, lambda product: product.vmware)


def from_virtualbox(text: str) -> Name[System] | None:
    """The system with this VirtualBox type, such as ``Debian12_64``, in any case."""
    stem = _VIRTUALBOX_STEMS.get(text.strip().lower().removesuffix("_64"))
    if stem is None:
        return None
    bits = 64 if text.strip().endswith("_64") else 32
    return _named(stem, bits, text.strip(), lambda product: product.virtualbox)


def from_cim(number: int, *, bits: int = 64) -> Name[System] | None:
    """The system with this CIM OSType; None when it is unknown, disputed, or says nothing.

    `bits` decides where one id stands for both widths.
    """
    if number in CIM_DISPUTED or number in (1, 102):
        return None
    why = f"CIM id {number} ({CIM_NAMES.get(number)}) names no version"
    for version, pair in CIM_KERNELS.items():
        if number in pair:
            system = _system(_KERNEL, version, _width(number, pair, bits))
            return Name(system, Fit.COARSE, f"CIM id {number} names no distribution")
    for product in (_KERNEL, *PRODUCTS):
        for release in _releases(product).values():
            if number in release.cim and release.cim_exact:
                width = _width(number, release.cim, bits)
                return Name(_system(product, release.version, width), *_EXACT)
        if number in product.cim:
            system = _system(product, (), _width(number, product.cim, bits))
            return Name(system, Fit.COARSE, why)
    return None


def cim_meanings(number: int) -> tuple[str, ...]:
    """What a CIM OSType means; several when products disagree, none when it is unknown."""
    if number in CIM_DISPUTED:
        return CIM_DISPUTED[number]
    return (CIM_NAMES[number],) if number in CIM_NAMES else ()


def vmware_guest(text: str) -> VmwareGuest | None:
    """The row for a VMX ``guestOS`` or a vSphere ``guestId``, in any case; None: not VMware's."""
    name = text.strip().lower()
    if name.startswith("winserver2008"):  # the many editions of old Workstations
        name = "longhorn-64" if name.endswith("-64") else "longhorn"
    elif re.fullmatch(r"winvista.+-(32|64)", name):
        name = "winvista-64" if name.endswith("-64") else "winvista"
    return _VMWARE_GUESTS.get(VMX_ALIASES.get(name, name).lower())


# --- Names, best first --------------------------------------------------------------------------


def _vmware(system: System, hardware: int | None) -> Name[VmwareGuest]:
    wanted: VmwareGuest | None = None
    for span in _candidates(system, lambda product: product.vmware):
        key = _VMWARE_KEYS[span.name]
        row = _row(key, system.bits)
        if row is None and key.id_64 is None and _covers(span, system.version):
            row = _row(key, 32)  # a 32-bit system on a 64-bit machine
        if row is None:
            continue
        wanted = wanted or row
        if hardware is not None and row.hardware > hardware:
            continue
        if row != wanted:
            why = (
                f"a host for virtual hardware {hardware} may not know {wanted.key}, which came "
                f"with version {wanted.hardware}"
            )
            return Name(row, Fit.SUBSTITUTE, why)
        fit, why = _fit(system, span, row.key, system.product.vmware, "VMware")
        return Name(row, fit, why)
    raise AssertionError("unreachable: other and other-64 are always there")


def _virtualbox(system: System) -> Name[str]:
    for span in _candidates(system, lambda product: product.virtualbox):
        bits = system.bits
        if span.name in VIRTUALBOX_32_ONLY and bits == 64:
            if not _covers(span, system.version):
                continue
            bits = 32  # a 32-bit system on a 64-bit machine
        if span.name in VIRTUALBOX_64_ONLY and bits == 32:
            continue
        name = f"{span.name}_64" if bits == 64 else span.name
        fit, why = _fit(system, span, name, system.product.virtualbox, "VirtualBox")
        return Name(name, fit, why)
    raise AssertionError("unreachable: Other and Other_64 are always there")


def _cim(system: System) -> Name[int]:
    release = next(
        (r for r in _releases(system.product).values() if r.version == system.version), None
    )
    pair = system.product.cim if release is None else release.cim
    if system.product is _KERNEL:
        pair = CIM_KERNELS.get(system.version[:2], pair)
    number = pair[0] if system.bits == 32 else pair[1]
    if number in (1, 102) and system.product is not _UNKNOWN:
        return Name(number, Fit.SUBSTITUTE, f"CIM has no id for {system.name}")
    if release is None:
        return Name(number, Fit.COARSE, f"CIM id {number} ({CIM_NAMES[number]}) names no version")
    if release.cim_exact:
        return Name(number, Fit.EXACT)
    why = f"CIM has no id for {system.name} that all products read alike"
    return Name(number, Fit.SUBSTITUTE, why)


def _candidates(system: System, spans_of: Callable[[Product], tuple[Span, ...]]) -> Iterator[Span]:
    """Names for `system`, the best first: its own, its kin's, older ones, newer ones, generic."""
    own = spans_of(system.product)
    kin = () if system.product.like is None else spans_of(_BY_SHORT[system.product.like])
    for line in (own, kin):
        yield from (span for span in line if _covers(span, system.version))
    for line in (own, kin):
        older = [span for span in line if not system.version or span.first <= system.version]
        yield from reversed(older)
        yield from (span for span in line if span not in older)
    if system.family is Family.LINUX:
        yield from (span for span in reversed(spans_of(_KERNEL)) if span.first < (7,))
    yield from spans_of(_UNKNOWN)


def _covers(span: Span, version: Version) -> bool:
    """Whether `version` lies in `span`; one that is not known lies only in a span of them all."""
    if not version:
        return span.first == () and span.last is None
    return span.first <= version and (span.last is None or version[: len(span.last)] <= span.last)


def _fit(
    system: System, span: Span, name: str, own: tuple[Span, ...], whose: str
) -> tuple[Fit, str]:
    """How well `name`, that of `span`, fits, and why not better."""
    if span not in own or not _covers(span, system.version):
        return Fit.SUBSTITUTE, f"{whose} has no name for {system.name} ({system.bits}-bit)"
    product = system.product
    if product is _UNKNOWN or product is _KERNEL:
        return Fit.EXACT, ""
    if any(span.name == kernel.name for kernel in (*_KERNEL.vmware, *_KERNEL.virtualbox)):
        return Fit.COARSE, f"{name} names the kernel only, not {product.name}"
    namesake = next(
        other
        for other in PRODUCTS
        if any(span.name == line.name for line in (*other.vmware, *other.virtualbox))
    )
    if namesake.name != product.name:
        return Fit.COARSE, f"{name} means {namesake.name} too"
    releases = _releases(product).values()
    others = [r.name for r in releases if _covers(span, r.version) and r.version != system.version]
    if others:
        return Fit.COARSE, f"{name} means {' and '.join(others)} too"
    if releases or (span.first and span.last and span.first[0] == span.last[0]):
        return Fit.EXACT, ""
    if product.rolling is not None:
        return Fit.EXACT, ""
    return Fit.COARSE, f"{name} names no version of {product.name}"


def _worse(found: Name[System], named: Name[Id]) -> Name[Id]:
    """`named`, but no better a fit than the system it was derived from."""
    ranks = list(Fit)
    if ranks.index(found.fit) < ranks.index(named.fit) or found.fit is Fit.EXACT:
        return named
    return Name(named.id, found.fit, "; ".join(filter(None, (found.why, named.why))))


def _nothing_known(guest: GuestOs | None) -> str:
    stated = None if guest is None else (guest.osinfo or guest.description)
    if stated is None:
        return "the source does not say which operating system is inside"
    return f"vmport does not know the operating system {stated}"


# --- Systems ------------------------------------------------------------------------------------


def _spelled(product: Product, text: str, bits: int) -> Name[System]:
    """The system that is `product` in the version that `text` spells in an osinfo id."""
    if product in (_WINDOWS, _WINDOWS_SERVER):
        return _windows(product, text, bits)
    text = re.sub(r"sp(?=[0-9]+$)", ".", text)  # SUSE's short ids
    digits = re.match(r"[0-9]{1,9}(\.[0-9]{1,9})*", text)
    if digits is not None:
        version = tuple(int(part) for part in digits[0].split("."))
        return Name(_system(product, version, bits), *_EXACT)
    unversioned = _system(product, (), bits)
    if text in ("", "unknown", product.rolling):
        return Name(unversioned, *_EXACT)
    osinfo = f"http://{product.osinfo}/{text}"
    return Name(replace(unversioned, name=f"{product.name} {text}", osinfo=osinfo), *_EXACT)


def _windows(product: Product, text: str, bits: int) -> Name[System]:
    if product is _WINDOWS_SERVER or re.match(r"2k[0-9]", text):
        product = _WINDOWS_SERVER
        text = text if text.startswith("2k") else f"2k{text}"
        if text == "2k":  # the short id of Windows 2000
            product = _WINDOWS
    releases = _releases(product)
    if text in releases:
        return Name(_system(product, releases[text].version, bits), Fit.EXACT)
    newest = list(releases.values())[-1]
    why = f"vmport does not know Windows {text!r}; {newest.name} is the newest it knows"
    return Name(_system(product, newest.version, bits), Fit.SUBSTITUTE, why)


def _named(
    stem: str, bits: int, shown: str, spans_of: Callable[[Product], tuple[Span, ...]]
) -> Name[System] | None:
    """The system that `stem` names in the vocabulary that `spans_of` reads."""
    for product in (_KERNEL, *PRODUCTS):
        for span in spans_of(product):
            if span.name == stem:
                return _named_by(product, span, bits, shown)
    if stem in GENERIC_LINUX:
        return Name(_system(_KERNEL, (), bits), Fit.COARSE, f"{shown} names no distribution")
    return None


def _named_by(product: Product, span: Span, bits: int, shown: str) -> Name[System]:
    covered = [r for r in _releases(product).values() if _covers(span, r.version)]
    if covered:
        system = _system(product, covered[-1].version, bits)
        others = " and ".join(release.name for release in covered[:-1])
        return Name(system, *((Fit.COARSE, f"{shown} means {others} too") if others else _EXACT))
    version = span.last if span.last is not None and span.first[:1] == span.last[:1] else ()
    system = _system(product, version, bits)
    if product is _KERNEL:
        return Name(system, Fit.COARSE, f"{shown} names no distribution")
    if version or product is _UNKNOWN:
        return Name(system, *_EXACT)
    return Name(system, Fit.COARSE, f"{shown} names no version of {product.name}")


def _system(product: Product, version: Version, bits: int) -> System:
    text = ".".join(map(str, version))
    if product.calendar and len(version) > 1:
        text = f"{version[0]}.{version[1]:02}"
    name = f"{product.name} {text}".strip()
    osinfo: str | None = None
    if product is _KERNEL:
        osinfo = GENERIC_LINUX_YEARS.get(version[:1])
    elif product is _UNKNOWN:
        osinfo = f"http://{product.osinfo}"
    elif text or product.rolling is not None:
        osinfo = f"http://{product.osinfo}/{text or product.rolling}".rstrip("/")
    for spelling, release in _releases(product).items():
        if release.version == version:
            name = release.name
            osinfo = f"http://microsoft.com/win/{spelling}"
    return System(product, version, bits, name, osinfo)


def _releases(product: Product) -> Mapping[str, WindowsRelease]:
    if product is _WINDOWS:
        return WINDOWS_CLIENTS
    return WINDOWS_SERVERS if product is _WINDOWS_SERVER else {}


def _width(number: int, pair: tuple[int, int], bits: int) -> int:
    """Of what width the system with id `number` is, in a pair of ids for 32 and 64 bits."""
    if pair[0] == pair[1]:
        return bits
    return 32 if number == pair[0] else 64


# --- Indices over the tables --------------------------------------------------------------------


def _row(key: VmwareKey, bits: int) -> VmwareGuest | None:
    name = key.id_32 if bits == 32 else key.id_64
    if name is None:
        return None
    return VmwareGuest(key.stem if bits == 32 else f"{key.stem}-64", name, bits, key.hardware)


_EXACT: Final = (Fit.EXACT, "")
_BY_SHORT: Final = {product.short: product for product in reversed(PRODUCTS)}
_WINDOWS: Final = _BY_SHORT["win"]
_WINDOWS_SERVER: Final = _BY_SHORT["win2k"]
_KERNEL: Final = _BY_SHORT["kernel"]
_UNKNOWN: Final = _BY_SHORT["unknown"]
# The longest first: "centos-stream9" is no CentOS, ".../win/2k16" no client.
_BY_SHORT_ID: Final = sorted(PRODUCTS, key=lambda product: -len(product.short))
_BY_OSINFO: Final = sorted(PRODUCTS, key=lambda product: -len(product.osinfo))
_VMWARE_KEYS: Final = {key.stem: key for key in VMWARE}
_VMWARE_GUESTS: Final = {
    text.lower(): row
    for key in VMWARE
    for bits in (32, 64)
    if (row := _row(key, bits)) is not None
    for text in (row.key, row.id)
}
_VIRTUALBOX_STEMS: Final = {
    name.lower(): name
    for name in (*(span.name for product in PRODUCTS for span in product.virtualbox), "Linux")
}
