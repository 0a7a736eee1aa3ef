"""OVF envelopes of every version give the same model, with the place of everything."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmport_formats.errors import CorruptInput
from vmport_formats.machine.ovf.envelope import Envelope, OvfVersion, read_envelope
from vmport_formats.machine.ovf.units import bytes_in
from vmport_formats.xml import parse_xml

GOOD = Path(__file__).parents[3] / "fixtures" / "validate" / "good.ovf"


def _read(text: str) -> Envelope:
    return read_envelope(parse_xml(text.encode(), name="x.ovf"))


def test_an_envelope_of_version_1() -> None:
    envelope = read_envelope(parse_xml(GOOD.read_bytes(), name="good.ovf"))
    assert envelope.version is OvfVersion.V1
    assert [(file.id, file.href) for file in envelope.files] == [
        ("file1", "system.vmdk"),
        ("file2", "install.iso"),
    ]
    assert [(disk.id, disk.capacity, disk.file_ref) for disk in envelope.disks] == [
        ("system", "8", "file1"),
        ("data", "${data.size}", None),
    ]
    assert [network.name for network in envelope.networks] == ["front", "back"]
    assert [(item.id, item.default) for item in envelope.configurations] == [
        ("small", True),
        ("large", False),
    ]
    assert [item.key for item in envelope.properties] == ["data.size"]
    (system,) = envelope.systems
    (hardware,) = system.hardware
    assert hardware.types == ("vmx-13", "virtualbox-2.2")
    assert len(hardware.items) == 11
    assert hardware.items[1].configurations == ("large",)
    assert hardware.items[3].bound == "min"
    assert [item.required for item in hardware.items].count(False) == 1
    assert [(line.key, line.value) for line in hardware.settings] == [
        ("firmware", "efi"),
        ("bootOptions.efiSecureBootEnabled", "true"),
    ]
    (guest,) = system.guests
    assert (guest.id, guest.vmware) == ("96", "debian12_64Guest")


def test_places_are_those_of_the_file() -> None:
    text = GOOD.read_text(encoding="utf-8")
    envelope = _read(text)
    disk = envelope.disks[0]
    line = next(number for number, row in enumerate(text.split("\n"), 1) if '"system"' in row)
    row = text.split("\n")[line - 1]
    assert str(envelope.place(disk.element)) == f"{line}:{row.index('<Disk') + 1}"
    capacity = envelope.place(disk.element, "capacity")
    assert str(capacity) == f"{line}:{row.index('ovf:capacity=') + 1}"


def test_an_envelope_of_version_0_9() -> None:
    """Its sections are told apart by xsi:type, and its elements may be in no namespace."""
    envelope = _read(
        """<o:Envelope xmlns:o="http://www.vmware.com/schema/ovf/1/envelope"
            xmlns:s="http://www.w3.org/2001/XMLSchema-instance"
            xmlns:r="urn:CIM_ResourceAllocationSettingData">
          <References><File o:id="f" o:href="a.vmdk"/></References>
          <Section s:type="o:DiskSection_Type">
            <Info/><Disk o:diskId="d" o:fileRef="f" o:capacity="1"/></Section>
          <o:Content o:id="all" s:type="o:VirtualSystemCollection_Type"><Info/>
            <Content o:id="vm" s:type="o:VirtualSystem_Type"><Info/>
              <Section s:type="o:VirtualHardwareSection_Type"><Info/>
                <Item><r:InstanceId>7</r:InstanceId></Item>
              </Section>
            </Content>
          </o:Content>
        </o:Envelope>"""
    )
    assert envelope.version is OvfVersion.V0_9
    assert [(disk.id, disk.file_ref) for disk in envelope.disks] == [("d", "f")]
    assert [system.id for system in envelope.systems] == ["vm"]
    assert len(envelope.collections) == 1
    assert envelope.systems[0].hardware[0].items[0].text("InstanceID") == "7"
    assert [(section.kind, section.parent) for section in envelope.sections] == [
        ("DiskSection", "Envelope"),
        ("VirtualHardwareSection", "VirtualSystem"),
    ]


def test_an_envelope_of_version_2() -> None:
    envelope = _read(
        """<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/2"
            xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/2"
            xmlns:s="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_StorageAllocationSettingData.xsd">
          <References/>
          <SharedDiskSection><Info/>
            <SharedDisk ovf:diskId="d" ovf:capacity="1"/></SharedDiskSection>
          <VirtualSystem ovf:id="vm"><Info/><VirtualHardwareSection><Info/>
            <StorageItem ovf:required="false"><s:InstanceID>3</s:InstanceID></StorageItem>
          </VirtualHardwareSection></VirtualSystem>
        </Envelope>"""
    )
    assert envelope.version is OvfVersion.V2
    assert [disk.id for disk in envelope.disks] == ["d"]
    (item,) = envelope.systems[0].hardware[0].items
    assert (item.kind, item.text("InstanceID"), item.required) == ("StorageItem", "3", False)


@pytest.mark.parametrize(
    "text",
    ["<domain/>", "<Envelope/>", '<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/3"/>'],
)
def test_what_is_no_envelope_is_refused(text: str) -> None:
    with pytest.raises(CorruptInput) as caught:
        _read(text)
    assert caught.value.code == "ovf.not-an-envelope"


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        ("byte", 1),
        ("byte * 2^20", 1 << 20),
        ("byte*2^30", 1 << 30),
        ("byte * 2 ^ 10", 1 << 10),
        ("byte*1024*1024", 1 << 20),
        ("byte * 10^9", 10**9),
        ("MegaBytes", 1 << 20),
        ("GB", 1 << 30),
        ("KiB", 1 << 10),
        ("hertz * 10^6", None),
        ("byte * 2^", None),
        ("byte * 2^9999", None),
        ("byte * 99999999999999999999999999999^999", None),
        ("2^20", None),
        ("", None),
    ],
)
def test_units_of_size(unit: str, size: int | None) -> None:
    assert bytes_in(unit) == size


@given(st.integers(2, 10), st.integers(0, 20), st.sampled_from(["", " ", "  "]))
def test_programmatic_units_with_any_spacing(base: int, power: int, space: str) -> None:
    assert bytes_in(f"byte{space}*{space}{base}{space}^{space}{power}") == base**power


@given(st.text(max_size=60))
def test_any_text_is_a_unit_or_none(text: str) -> None:
    size = bytes_in(text)
    assert size is None or size > 0
