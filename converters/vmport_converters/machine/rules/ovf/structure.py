"""Rules for the sections and names of an OVF envelope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.model import Found, Layer, Severity
from vmport_converters.machine.rules.ovf.names import (
    ATTRIBUTES,
    CHILDREN,
    ITEM_FIELDS,
    NEWER_ITEMS,
    NEWER_SECTIONS,
    PARENTS,
    SECTIONS,
    SYSTEM_FIELDS,
)
from vmport_converters.machine.rules.ovf.view import (
    ALL,
    RULES,
    at,
    at_key,
    hardware_sections,
)
from vmport_converters.machine.rules.spelling import Speller
from vmport_formats.machine.ovf.envelope import (
    EPASD,
    ITEMS,
    RASD,
    SASD,
    VBOX,
    VMW,
    VSSD,
    OvfVersion,
    attribute,
    kind_of,
    split,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml import etree

    from vmport_formats.machine.ovf.envelope import Envelope

_TEXT_SECTIONS: Final = ("EulaSection", "AnnotationSection", "ProductSection")
_FIELD_NAMESPACES: Final = {
    RASD: ITEM_FIELDS,
    SASD: ITEM_FIELDS,
    EPASD: ITEM_FIELDS,
    VSSD: SYSTEM_FIELDS,
}


@RULES.rule("references-missing", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def references_missing(ovf: Envelope) -> Iterator[Found]:
    """There is no ``References`` element.

    The schema wants one even when the package has no files; VMware products refuse the envelope.
    """
    if ovf.references is None:
        yield at(
            ovf,
            ovf.element,
            "the envelope has no References element",
            "add <References/> as its first child, with a File for each disk image",
        )


@RULES.rule("no-system", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def no_system(ovf: Envelope) -> Iterator[Found]:
    """There is no ``VirtualSystem`` in the envelope.

    It describes no machine, and importers refuse it.  An empty collection is a warning.
    """
    if not ovf.systems:
        yield at(
            ovf,
            ovf.element,
            "the envelope holds no VirtualSystem",
            "add one for the machine",
            severity=Severity.WARNING if ovf.collections else None,
        )


@RULES.rule("hardware-missing", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def hardware_missing(ovf: Envelope) -> Iterator[Found]:
    """A virtual system has no ``VirtualHardwareSection``.

    Nothing says what the machine consists of; importers refuse it.
    """
    for system in ovf.systems:
        if not system.hardware:
            yield at(
                ovf,
                system.element,
                "this machine has no VirtualHardwareSection",
                "add one with its CPUs, memory, controllers, disks and network cards",
            )


@RULES.rule("hardware-several", Severity.WARNING, affects=ALL, layer=Layer.STRUCTURE)
def hardware_several(ovf: Envelope) -> Iterator[Found]:
    """A virtual system has more than one ``VirtualHardwareSection``.

    They are alternatives, of which an importer may take any; most read the first only.
    """
    for system in ovf.systems:
        for section in system.hardware[1:]:
            yield at(
                ovf,
                section.element,
                "this machine has more than one VirtualHardwareSection; most importers read only "
                "the first",
                "keep one, or list the hardware families in its VirtualSystemType",
            )


@RULES.rule("newer-element", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def newer_element(ovf: Envelope) -> Iterator[Found]:
    """An element of OVF 2 stands in an envelope of OVF 1.

    Importers of OVF 1 do not know ``StorageItem`` and ``EthernetPortItem``: disks and network
    cards are missing, or the import fails.
    """
    if ovf.version is OvfVersion.V2:
        return
    mend = "write it as OVF 1 has it (Item), or take the namespace of OVF 2 for the envelope"
    for section in ovf.sections:
        if section.native and section.kind in NEWER_SECTIONS:
            yield at(ovf, section.element, f"{section.kind} came with OVF 2", mend)
    for _, hardware in hardware_sections(ovf):
        for item in hardware.items:
            if item.kind in NEWER_ITEMS:
                yield at(ovf, item.element, f"{item.kind} came with OVF 2", mend)


@RULES.rule("section-misplaced", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def section_misplaced(ovf: Envelope) -> Iterator[Found]:
    """A section stands where OVF has no such section.

    Disks, networks and configurations belong to the envelope, hardware and operating system to a
    virtual system, start-up order to a collection.  Elsewhere importers do not see the section,
    or refuse the envelope.
    """
    for section in ovf.sections:
        wanted = PARENTS.get(section.kind) if section.native else None
        if ovf.version is OvfVersion.V0_9 and section.kind in _TEXT_SECTIONS:
            continue
        if wanted is not None and section.parent not in wanted:
            places = " or ".join(sorted(wanted))
            yield at(
                ovf,
                section.element,
                f"{section.kind} belongs into {places}, not into {section.parent}",
                f"move it into the {places}",
                expected=places,
            )


@RULES.rule("section-unknown", Severity.WARNING, affects=ALL, layer=Layer.STRUCTURE)
def section_unknown(ovf: Envelope) -> Iterator[Found]:
    """A section that is not OVF's own must be understood, as it does not say otherwise.

    An importer has to refuse a section that it does not know, unless ``ovf:required`` is
    ``false``.  It is a note for sections of VMware and VirtualBox, which their own products know.
    """
    for section in ovf.sections:
        known = section.native and section.kind in SECTIONS | NEWER_SECTIONS
        if known or not section.required or section.kind in CHILDREN:
            continue
        namespace = split(section.element)[0]
        vendor = {VMW: "VMware", VBOX: "VirtualBox"}.get(namespace)
        yield at(
            ovf,
            section.element,
            f"importers that do not know {section.kind} have to refuse the envelope",
            'add ovf:required="false", if the machine works without it',
            affects=f"every importer but {vendor}'s" if vendor else None,
            severity=Severity.NOTE if vendor else None,
        )


@RULES.rule("info-missing", Severity.WARNING, affects="strict importers", layer=Layer.STRUCTURE)
def info_missing(ovf: Envelope) -> Iterator[Found]:
    """A section or machine has no ``Info`` element.

    The schema wants one in each; importers that check it refuse the envelope.
    """
    parents = [section.element for section in ovf.sections if section.native]
    parents += [system.element for system in ovf.systems]
    for element in (*parents, *ovf.collections):
        if element.find("{*}Info") is None:
            yield at(ovf, element, f"{kind_of(element)} has no Info element", "add <Info>…</Info>")


@RULES.rule("attribute-missing", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def attribute_missing(ovf: Envelope) -> Iterator[Found]:
    """An element lacks an attribute that the schema wants.

    A file needs ``id`` and ``href``, a disk ``diskId``, ``capacity`` and ``format``, a network
    ``name``, a machine, a collection and a configuration ``id``, a property ``key`` and ``type``.
    Importers refuse the envelope, or ignore the element.  For the format of a blank disk it is a
    warning.
    """
    wanted: list[tuple[etree._Element, tuple[str, ...]]] = [
        *((file.element, ("id", "href")) for file in ovf.files),
        *((disk.element, ("diskId", "capacity", "format")) for disk in ovf.disks),
        *((network.element, ("name",)) for network in ovf.networks),
        *((system.element, ("id",)) for system in ovf.systems),
        *((element, ("id",)) for element in ovf.collections),
        *((choice.element, ("id",)) for choice in ovf.configurations),
        *((line.element, ("key", "type")) for line in ovf.properties),
    ]
    for element, names in wanted:
        for name in names:
            if (attribute(element, name, ovf.namespace) or "").strip():
                continue
            blank = name == "format" and not attribute(element, "fileRef", ovf.namespace)
            yield at(
                ovf,
                element,
                f"{kind_of(element)} has no ovf:{name}",
                f"add ovf:{name}",
                affects="strict importers" if blank else None,
                severity=Severity.WARNING if blank else None,
            )


@RULES.rule("attribute-namespace", Severity.NOTE, affects="strict importers")
def attribute_namespace(ovf: Envelope) -> Iterator[Found]:
    """An attribute of OVF is written without its namespace.

    ``href`` and ``ovf:href`` are different attributes; importers that read the latter do not see
    the former.
    """
    for element in _own_elements(ovf):
        known = ATTRIBUTES.get(split(element)[1], frozenset())
        for key in map(str, element.attrib):
            if key in known and f"{{{ovf.namespace}}}{key}" not in element.attrib:
                yield at_key(
                    ovf,
                    element,
                    key,
                    f"{key} is not in OVF's namespace here",
                    f"write ovf:{key}",
                )


@RULES.rule("misspelled-attribute", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def misspelled_attribute(ovf: Envelope) -> Iterator[Found]:
    """An attribute in OVF's namespace is unknown and nearly a known one.

    Upper and lower case count: ``ovf:fileref`` is not ``ovf:fileRef``.  Importers ignore what
    they do not know, and miss what was meant.
    """
    speller = Speller()
    for element in _own_elements(ovf):
        known = ATTRIBUTES.get(split(element)[1])
        if known is None:
            continue
        for key in map(str, element.attrib):
            namespace, _, name = key[1:].partition("}") if key.startswith("{") else ("", "", "")
            if namespace != ovf.namespace or name in known | {"required", "msgid"}:
                continue
            meant = speller.nearest(name, known)
            if meant is not None:
                yield at_key(
                    ovf,
                    element,
                    key,
                    f"OVF has no attribute {name} here; did you mean {meant}?",
                    f"write ovf:{meant}",
                )


@RULES.rule("misspelled-element", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def misspelled_element(ovf: Envelope) -> Iterator[Found]:
    """An element is unknown and nearly a known one.

    Importers ignore what they do not know, or refuse the envelope, and miss what was meant.
    """
    speller = Speller()
    for element in ovf.element.iterdescendants(tag="*"):
        parent = element.getparent()
        namespace, name = split(element)
        if parent is None:
            continue
        if ovf.owns(element) and ovf.owns(parent):
            known = CHILDREN.get(kind_of(parent))
        elif split(parent)[1] in (*ITEMS, "System"):
            known = _FIELD_NAMESPACES.get(namespace)
        else:
            known = None
        if known is None or name in known or kind_of(element) in known:
            continue
        meant = speller.nearest(name, known)
        if meant is not None:
            yield at(
                ovf,
                element,
                f"{kind_of(parent)} has no element {name}; did you mean {meant}?",
                f"write {meant}",
            )


@RULES.rule("duplicate-id", Severity.ERROR, affects=ALL, layer=Layer.STRUCTURE)
def duplicate_id(ovf: Envelope) -> Iterator[Found]:
    """Two files, disks, networks, machines, configurations or properties have the same name.

    What refers to the name gets one of the two.
    """
    groups: list[tuple[str, str, list[tuple[str | None, etree._Element]]]] = [
        ("file", "id", [(file.id, file.element) for file in ovf.files]),
        ("disk", "diskId", [(disk.id, disk.element) for disk in ovf.disks]),
        ("network", "name", [(network.name, network.element) for network in ovf.networks]),
        ("machine", "id", [(system.id, system.element) for system in ovf.systems]),
        ("configuration", "id", [(choice.id, choice.element) for choice in ovf.configurations]),
    ]
    properties: dict[int, list[tuple[str | None, etree._Element]]] = {}
    for line in ovf.properties:
        owner = line.element.getparent()
        holder = None if owner is None else owner.getparent()
        properties.setdefault(id(holder), []).append((line.key, line.element))
    groups += [("property", "key", found) for found in properties.values()]
    for what, name, found in groups:
        seen: dict[str, etree._Element] = {}
        for value, element in found:
            first = element if not value else seen.setdefault(value, element)
            if first is not element:
                yield at(
                    ovf,
                    element,
                    f"a second {what} is called {value!r}; the first is in line "
                    f"{ovf.place(first).line}",
                    f"give it another ovf:{name}",
                    attribute=name,
                )


@RULES.rule("configuration-default", Severity.ERROR, affects=ALL)
def configuration_default(ovf: Envelope) -> Iterator[Found]:
    """More than one deployment configuration is the default.

    Importers differ in which of them they take.
    """
    defaults = [choice for choice in ovf.configurations if choice.default]
    for choice in defaults[1:]:
        yield at(
            ovf,
            choice.element,
            f"{choice.id!r} is a default besides {defaults[0].id!r}",
            'leave ovf:default="true" on one configuration',
            attribute="default",
        )


@RULES.rule("configuration-undefined", Severity.ERROR, affects=ALL)
def configuration_undefined(ovf: Envelope) -> Iterator[Found]:
    """Hardware belongs to a deployment configuration that is not declared.

    No choice of the user includes it, so the machine never has it.
    """
    known = {choice.id for choice in ovf.configurations}
    for _, section in hardware_sections(ovf):
        lines = [(section.element, section.configurations)]
        lines += [(item.element, item.configurations) for item in section.items]
        for element, names in lines:
            for name in names:
                if name not in known:
                    yield at(
                        ovf,
                        element,
                        f"there is no configuration {name!r} in the DeploymentOptionSection",
                        f"declare {name!r} there, or take one that is declared",
                        attribute="configuration",
                    )


def _own_elements(ovf: Envelope) -> Iterator[etree._Element]:
    """OVF's own elements."""
    return (element for element in ovf.element.iter("*") if ovf.owns(element))
