"""Whatever a file holds, checking it ends soon, with findings or with a VmportError."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from vmport_converters.machine.rules.targets import TARGETS
from vmport_converters.machine.validate import (
    MAX_DESCRIPTOR,
    MAX_PER_RULE,
    validate_bytes,
    validate_file,
)
from vmport_formats.errors import VmportError

FIXTURES: Final = Path(__file__).parents[3] / "fixtures" / "validate"
GOOD: Final = [(FIXTURES / name).read_bytes() for name in ("good.xml", "good.vmx", "good.ovf")]
XML: Final = [GOOD[0], GOOD[2]]
ALL_TARGETS: Final = list(TARGETS.values())

OVF: Final = (
    b'<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" '
    b'xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:r="http://schemas.dmtf.org/wbem/'
    b'wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"><References/>'
)
_ODD: Final = (
    "", "0", "-1", "7", "18446744073709551616", "9" * 400, "0x10", "1e9", "${x}", "\x7f", "é",
    "../..", "%2e%2e", "|22", "TRUE", "byte * 2^999", "true", "a:b", "virtio", "\u202e",
)  # fmt: skip


def _check(data: bytes) -> None:
    try:
        report = validate_bytes(data, name="x", targets=ALL_TARGETS)
    except VmportError:
        return
    for finding in report.findings:
        assert finding.position.line >= 1
        assert finding.position.column >= 1
        assert len(finding.problem) < 500


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=2000)
@given(data=st.data())
def test_files_with_changed_bytes(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(GOOD)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        cut = data.draw(st.integers(0, 30))
        content[at : at + cut] = data.draw(st.binary(max_size=8))
    _check(bytes(content))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=2000)
@given(data=st.data())
def test_xml_with_changed_values_names_and_order(data: st.DataObject) -> None:
    """Well-formed all the same, so that the rules get to see it."""
    root = etree.fromstring(data.draw(st.sampled_from(XML)))
    for _ in range(data.draw(st.integers(1, 8))):
        elements = list(root.iter("*"))
        element = data.draw(st.sampled_from(elements))
        match data.draw(st.integers(0, 4)):
            case 0:
                element.text = data.draw(st.sampled_from(_ODD))
            case 1 if len(element.attrib):
                key = data.draw(st.sampled_from(sorted(map(str, element.attrib))))
                element.set(key, data.draw(st.sampled_from(_ODD)))
            case 2 if element is not root:
                element.getparent().remove(element)  # type: ignore[union-attr]
            case 3 if element is not root:
                copy = etree.fromstring(etree.tostring(element, with_tail=False))
                data.draw(st.sampled_from(elements)).append(copy)
            case _:
                element.tag = data.draw(st.sampled_from(elements)).tag
    _check(etree.tostring(root))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=2000)
@given(data=st.data())
def test_vmx_with_changed_keys_values_and_order(data: st.DataObject) -> None:
    lines = GOOD[1].decode().split("\n")
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(lines) - 1))
        key, _, _value = lines[at].partition("=")
        match data.draw(st.integers(0, 3)):
            case 0:
                lines[at] = f'{key}= "{data.draw(st.sampled_from(_ODD))}"'
            case 1:
                lines.insert(at, data.draw(st.sampled_from(lines)))
            case 2 if len(lines) > 1:
                del lines[at]
            case _:
                number = data.draw(st.sampled_from(("0", "7", "99999999999", "")))
                lines[at] = lines[at].replace("0", number, 1)
    _check("\n".join(lines).encode())


def _many(count: int, form: bytes) -> bytes:
    return b"".join(form.replace(b"%d", str(n).encode()) for n in range(count))


@pytest.mark.parametrize(
    "data",
    [
        b"<domain>" + _many(19_000, b"<elem%d/>") + b"</domain>",
        b"<domain><devices>"
        + b"<disk><target dev='sda' bus='sata'/></disk>" * 9_000
        + b"</devices></domain>",
        b"<domain><devices>"
        + _many(9_000, b"<disk><target dev='sd%d'/></disk>")
        + b"</devices></domain>",
        b"<domain " + _many(19_000, b"a%d='' ") + b"/>",
        b"<domain><name>" + b"n" * 8_000_000 + b"</name></domain>",
        OVF
        + b"<DiskSection>"
        + b"".join(
            b'<Disk ovf:diskId="%d" ovf:parentRef="%d"/>' % (n, n + 1) for n in range(19_000)
        )
        + b"</DiskSection></Envelope>",
        OVF
        + b"<VirtualSystem><VirtualHardwareSection>"
        + _many(5_000, b"<Item><r:InstanceID>%d</r:InstanceID><r:Parent>1</r:Parent></Item>")
        + b"</VirtualHardwareSection></VirtualSystem></Envelope>",
        OVF
        + b"<VirtualSystem><VirtualHardwareSection>"
        + _many(6_000, b'<Item ovf:configuration="%d"><r:InstanceID>1</r:InstanceID></Item>')
        + b"</VirtualHardwareSection></VirtualSystem></Envelope>",
        b'config.version = "8"\n' + _many(19_000, b'scsi0:%d.present = "TRUE"\n'),
        b'config.version = "8"\n' + _many(19_000, b"ethernet%d.presnt = 1\n"),
        b'config.version = "8"\n' + b"x\n" * 19_000,
        b'config.version = "8"\nx = "' + b"|22" * 600_000 + b'"',
        b'config.version = "8"\n' + b" " * 2_000_000 + b"x",
        b'.encoding = "UTF-8"\n' + b"\xff\n" * 19_000,
    ],
    ids=range(14),
)
def test_hostile_files_take_little_time_and_give_few_findings(data: bytes) -> None:
    started = time.process_time()
    report = validate_bytes(data, name="x", targets=ALL_TARGETS[:1])
    assert time.process_time() - started < 3, "1 s on an idle machine"
    for rule in {finding.rule for finding in report.findings}:
        count = sum(finding.rule == rule for finding in report.findings)
        assert count <= MAX_PER_RULE
        assert (rule in report.capped) == (count == MAX_PER_RULE)


def test_large_files_are_refused_by_their_size(tmp_path: Path) -> None:
    path = tmp_path / "large.xml"
    with path.open("wb") as file:
        file.write(b"<domain>")
        file.truncate(100 << 20)
        file.seek(0)
        file.write(b"<domain>" + b" " * 8192)
    error = validate_file(path).error
    assert error is not None
    assert error.code == "validate.too-large"
    assert str(MAX_DESCRIPTOR) in error.problem


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"QFI\xfb\0\0\0\x03" + bytes(200), "a qcow2 disk image"),
        (b"# Disk DescriptorFile\nversion=1\n", "a VMDK disk image"),
        (bytes(64) + b"\x7f\x10\xda\xbe" + bytes(400), "a VDI disk image"),
        (b"web.ovf" + bytes(250) + b"ustar" + bytes(250), "a tar archive"),
        (b"\x1f\x8b\x08\0", "compressed with gzip"),
        (b"\x7fELF\x02\x01\x01\0", "a program"),
        (bytes(range(256)), "no text"),
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"# a shell script\necho hello = world\n", "no descriptor"),
        (b"<network><name>default</name></network>", "a libvirt network"),
        (b"<domainsnapshot><domain/></domainsnapshot>", "a snapshot of a libvirt domain"),
        (b"<domstatus><domain/></domstatus>", "virsh dumpxml"),
        (b'<VirtualBox xmlns="http://www.virtualbox.org/"/>', "a VirtualBox machine"),
        (b"<svg/>", "has the root element <svg>"),
        (b'<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1/"/>', "an OVF of oVirt or RHV"),
        (b'<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/3"/>', "namespace"),
    ],
)
def test_what_is_no_descriptor_is_named(data: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "machine.ovf"
    path.write_bytes(data)
    report = validate_file(path)
    assert report.error is not None
    assert what in report.error.problem
    assert report.error.exit_code == 3
    assert report.dialect is None
