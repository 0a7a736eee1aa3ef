"""One guest system in the words of libosinfo, VMware, VirtualBox and CIM."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmport_formats.machine import guest_os
from vmport_formats.machine.guest_os import Fit
from vmport_formats.machine.guest_os_table import (
    CIM_DISPUTED,
    CIM_NAMES,
    PRODUCTS,
    VIRTUALBOX_32_ONLY,
    VIRTUALBOX_64_ONLY,
    VMWARE,
    VMX_ALIASES,
    WINDOWS_CLIENTS,
    WINDOWS_SERVERS,
    Family,
    VmwareKey,
)
from vmport_formats.machine.model import GuestOs

OSINFO_DB = Path("/usr/share/osinfo/os")  # Debian's osinfo-db, which virt-v2v depends on


@pytest.mark.parametrize(
    ("osinfo", "vmx", "vsphere", "virtualbox", "cim"),
    [
        ("http://debian.org/debian/12", "debian12-64", "debian12_64Guest", "Debian12_64", 96),
        ("http://ubuntu.com/ubuntu/22.04", "ubuntu-64", "ubuntu64Guest", "Ubuntu22_LTS_64", 94),
        ("http://redhat.com/rhel/9.4", "rhel9-64", "rhel9_64Guest", "RedHat9_64", 80),
        ("http://centos.org/centos-stream/9", "centos9-64", "centos9_64Guest", "RedHat9_64", 107),
        ("http://rockylinux.org/rocky/9", "rockylinux-64", "rockylinux_64Guest", "RedHat9_64", 101),
        ("http://oracle.com/ol/8.5", "oraclelinux8-64", "oracleLinux8_64Guest", "Oracle8_64", 109),
        ("http://fedoraproject.org/fedora/41", "fedora-64", "fedora64Guest", "Fedora_64", 101),
        ("http://suse.com/sle/15.4", "sles15-64", "sles15_64Guest", "SUSE_LE_64", 85),
        ("http://opensuse.org/opensuse/15.4", "opensuse-64", "opensuse64Guest",
         "OpenSUSE_Leap_64", 83),
        ("http://alpinelinux.org/alpinelinux/3.20", "other6xlinux-64", "other6xLinux64Guest",
         "Linux26_64", 101),
        ("http://archlinux.org/archlinux/rolling", "other6xlinux-64", "other6xLinux64Guest",
         "ArchLinux_64", 101),
        ("http://libosinfo.org/linux/2022", "other5xlinux-64", "other5xLinux64Guest",
         "Linux26_64", 101),
        ("http://microsoft.com/win/xp", "winXPPro-64", "winXPPro64Guest", "WindowsXP_64", 71),
        ("http://microsoft.com/win/10", "windows9-64", "windows9_64Guest", "Windows10_64", 120),
        ("http://microsoft.com/win/11", "windows11-64", "windows11_64Guest", "Windows11_64", 120),
        ("http://microsoft.com/win/2k12r2", "windows8srv-64", "windows8Server64Guest",
         "Windows2012_64", 115),
        ("http://microsoft.com/win/2k16", "windows9srv-64", "windows9Server64Guest",
         "Windows2016_64", 115),
        ("http://microsoft.com/win/2k19", "windows2019srv-64", "windows2019srv_64Guest",
         "Windows2019_64", 115),
        # VMware's "Next" is the server after the year in the name.
        ("http://microsoft.com/win/2k22", "windows2019srvNext-64", "windows2019srvNext_64Guest",
         "Windows2022_64", 115),
        ("http://microsoft.com/win/2k25", "windows2022srvNext-64", "windows2022srvNext_64Guest",
         "Windows2025_64", 115),
        ("http://freebsd.org/freebsd/14.1", "freeBSD14-64", "freebsd14_64Guest", "FreeBSD_64", 78),
        ("http://openbsd.org/openbsd/7.5", "other-64", "otherGuest64", "OpenBSD_64", 65),
        ("http://oracle.com/solaris/11", "solaris11-64", "solaris11_64Guest", "Solaris11_64", 81),
        ("http://apple.com/macosx/10.7", "darwin11-64", "darwin11_64Guest", "MacOS107_64", 2),
        # 32-bit systems on a 64-bit machine keep their names.
        ("http://microsoft.com/win/2k", "win2000Pro", "win2000ProGuest", "Windows2000", 58),
        ("http://freedos.org/freedos/1.2", "dos", "dosGuest", "DOS", 14),
    ],
)  # fmt: skip
def test_each_vocabulary_has_its_word(
    osinfo: str, vmx: str, vsphere: str, virtualbox: str, cim: int
) -> None:
    guest = GuestOs(osinfo=osinfo)
    named = guest_os.for_vmware(guest, bits=64)
    assert (named.id.key, named.id.id) == (vmx, vsphere)
    assert guest_os.for_virtualbox(guest, bits=64).id == virtualbox
    assert guest_os.for_cim(guest, bits=64).id == cim


@pytest.mark.parametrize(
    ("osinfo", "bits", "hardware", "key", "fit", "why"),
    [
        ("http://debian.org/debian/12", 64, None, "debian12-64", Fit.EXACT, ""),
        # Newer than the table: the newest that VMware knows stands in.
        ("http://debian.org/debian/15", 64, None, "debian13-64", Fit.SUBSTITUTE,
         "VMware has no name for Debian 15 (64-bit)"),
        ("http://microsoft.com/win/2k28", 64, None, "windows2022srvNext-64", Fit.SUBSTITUTE,
         "vmport does not know Windows '2k28'; Windows Server 2025 is the newest it knows"),
        # Virtual hardware 19 runs on ESXi 7.0, which has not heard of Debian 12.
        ("http://debian.org/debian/12", 64, 19, "debian11-64", Fit.SUBSTITUTE,
         "a host for virtual hardware 19 may not know debian12-64, which came with version 20"),
        ("http://rockylinux.org/rocky/9", 64, 19, "rhel9-64", Fit.SUBSTITUTE, None),
        ("http://alpinelinux.org/alpinelinux/3.20", 64, 19, "other5xlinux-64", Fit.SUBSTITUTE,
         None),
        # One name for several systems.
        ("http://microsoft.com/win/8.1", 64, None, "windows8-64", Fit.COARSE,
         "windows8-64 means Windows 8 too"),
        ("http://microsoft.com/win/2k12", 64, None, "windows8srv-64", Fit.COARSE,
         "windows8srv-64 means Windows Server 2012 R2 too"),
        ("http://ubuntu.com/ubuntu/22.04", 64, None, "ubuntu-64", Fit.COARSE,
         "ubuntu-64 names no version of Ubuntu"),
        ("http://nixos.org/nixos/24.05", 64, None, "other6xlinux-64", Fit.COARSE,
         "other6xlinux-64 names the kernel only, not NixOS"),
        # There was no 32-bit RHEL 8.
        ("http://redhat.com/rhel/8.1", 32, None, "rhel7", Fit.SUBSTITUTE,
         "VMware has no name for Red Hat Enterprise Linux 8.1 (32-bit)"),
        ("http://example.org/plan9/4", 64, None, "other-64", Fit.SUBSTITUTE,
         "vmport does not know the operating system http://example.org/plan9/4"),
        (None, 32, None, "other", Fit.SUBSTITUTE,
         "the source does not say which operating system is inside"),
    ],
)  # fmt: skip
def test_a_stand_in_comes_with_the_reason(
    osinfo: str | None, bits: int, hardware: int | None, key: str, fit: Fit, why: str | None
) -> None:
    named = guest_os.for_vmware(GuestOs(osinfo=osinfo), bits=bits, hardware=hardware)
    assert (named.id.key, named.fit) == (key, fit)
    assert named.why == why if why is not None else named.why


@pytest.mark.parametrize(
    ("guest", "version"),
    [
        (None, None),
        (GuestOs(osinfo="http://ubuntu.com/ubuntu/22.04"), "22.04"),
        (GuestOs(vmware="debian12-64"), "12"),
        (GuestOs(osinfo="http://microsoft.com/win/2k12r2"), None),
        (GuestOs(osinfo="http://archlinux.org/archlinux/rolling"), None),
        (GuestOs(osinfo="http://debian.org/debian/12", version="12.5"), "12.5"),
    ],
)
def test_a_version_goes_with_the_cim_id(guest: GuestOs | None, version: str | None) -> None:
    assert guest_os.version_text(guest, bits=64) == version


def test_a_name_of_the_targets_own_is_kept() -> None:
    named = guest_os.for_vmware(GuestOs(vmware="OpenSUSE-64", osinfo="debian12"), bits=64)
    assert (named.id.id, named.fit) == ("opensuse64Guest", Fit.EXACT)
    assert guest_os.for_virtualbox(GuestOs(virtualbox="Haiku_64"), bits=64).id == "Haiku_64"


@pytest.mark.parametrize("number", sorted(CIM_DISPUTED))
def test_a_disputed_cim_id_names_nothing(number: int) -> None:
    assert guest_os.from_cim(number) is None
    assert len(guest_os.cim_meanings(number)) == 2


def test_no_disputed_cim_id_is_written() -> None:
    for releases in (WINDOWS_CLIENTS, WINDOWS_SERVERS):
        for version in releases:
            for bits in (32, 64):
                guest = GuestOs(osinfo=f"http://microsoft.com/win/{version}")
                assert guest_os.for_cim(guest, bits=bits).id not in CIM_DISPUTED


@pytest.mark.parametrize("row", VMWARE, ids=lambda row: row.stem)
def test_vmwares_names_come_back_as_themselves(row: VmwareKey) -> None:
    for name in filter(None, (row.id_32, row.id_64)):
        guest = guest_os.vmware_guest(name)
        assert guest is not None
        assert guest_os.vmware_guest(guest.key.upper()) == guest
        system = guest_os.from_vmware(guest.key)
        if system is None:  # VMware knows more systems than libosinfo has products
            continue
        again = guest_os.for_vmware(GuestOs(osinfo=system.id.osinfo), bits=guest.bits)
        # An id of libosinfo says no more than the system: editions collapse into one.
        if system.id.osinfo is not None and system.fit is Fit.EXACT:
            assert again.id == guest


def test_the_tables_agree_with_each_other() -> None:
    keys = [row.stem for row in VMWARE]
    ids = [name for row in VMWARE for name in (row.id_32, row.id_64) if name is not None]
    assert len(set(keys)) == len(keys)
    assert len(set(ids)) == len(ids)
    shorts = {product.short for product in PRODUCTS}
    for product in PRODUCTS:
        assert {span.name for span in product.vmware} <= set(keys), product.name
        assert product.like is None or product.like in shorts, product.name
        assert set(product.cim) <= set(CIM_NAMES), product.name
        for spans in (product.vmware, product.virtualbox):
            firsts = [span.first for span in spans]
            assert firsts == sorted(firsts), product.name
            assert all(span.last is None or span.first <= span.last for span in spans)
    assert {stem.removesuffix("-64") for stem in VMX_ALIASES.values()} <= set(keys)
    virtualbox = {span.name for product in PRODUCTS for span in product.virtualbox}
    assert virtualbox >= VIRTUALBOX_32_ONLY | VIRTUALBOX_64_ONLY


@pytest.mark.needs("virt-v2v")
def test_osinfo_db_is_understood() -> None:
    """Every system of libosinfo's own database, in a product that vmport knows."""
    families = {"linux": Family.LINUX, "winnt": Family.WINDOWS, "freebsd": Family.BSD,
                "openbsd": Family.BSD, "netbsd": Family.BSD, "solaris": Family.SOLARIS,
                "darwin": Family.DARWIN}  # fmt: skip
    known = nicknames = 0
    unknown: set[str] = set()
    for file in sorted(OSINFO_DB.glob("*/*.xml")):
        for element in ET.parse(file).getroot().iter("os"):
            url = element.get("id") or ""
            found = guest_os.from_osinfo(url, bits=64)
            if found is None:
                unknown.add(url.rpartition("/")[0])
                continue
            known += 1
            family = families.get(element.findtext("family") or "")
            # libosinfo files FreeDOS under Linux, and GNU Hurd too.
            assert family in (None, found.id.family) or "freedos" in url, url
            version = element.findtext("version") or ""
            if found.id.family is not Family.WINDOWS and re.fullmatch(r"[0-9.]+", version):
                wanted = tuple(int(part) for part in version.split("."))
                length = min(len(wanted), len(found.id.version))
                assert length, url
                assert found.id.version[:length] == wanted[:length], url
            for short in element.findall("short-id"):
                again = guest_os.from_osinfo(short.text or "", bits=64)
                nicknames += again is None
                if again is not None and re.search(r"[0-9]", short.text or ""):
                    assert again.id.product.name == found.id.product.name, short.text
    assert known > 600
    assert nicknames < 40
    assert len(unknown) < 20, unknown  # products on no server and on few desks


@given(st.text(max_size=60), st.sampled_from([32, 64]), st.integers(3, 30))
def test_any_text_has_some_answer(text: str, bits: int, hardware: int) -> None:
    for prefix in ("", "http://debian.org/debian/", "http://microsoft.com/win/", "win2k", "rhel"):
        guest = GuestOs(osinfo=prefix + text)
        named = guest_os.for_vmware(guest, bits=bits, hardware=hardware)
        assert named.id.hardware <= hardware
        assert bool(named.why) == (named.fit is not Fit.EXACT)
        guest_os.for_virtualbox(guest, bits=bits)
        guest_os.for_cim(guest, bits=bits)
    guest_os.from_vmware(text)
    guest_os.from_virtualbox(text)
