"""Reads the processors, the memory and the NUMA cells of a libvirt domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.machine.libvirt.values import (
    MAX_32,
    choice,
    cpu_list,
    flag,
    number,
    raw,
    same,
    size,
)
from vmport_formats.machine.model import (
    Cpu,
    CpuFeature,
    CpuFeaturePolicy,
    CpuMode,
    Memory,
    NumaCell,
    NumaDistance,
)

if TYPE_CHECKING:
    from vmport_formats.machine.reading import Node

_MAX_VCPUS: Final = 1 << 16
_TOPOLOGY: Final = ("sockets", "dies", "clusters", "cores", "threads")


def read_cpu(root: Node) -> Cpu | None:
    """The processors, from <vcpu> and <cpu>.

    Raises:
        CorruptInput: a topology that does not make up the number of CPUs.
    """
    vcpu, node = root.child("vcpu"), root.child("cpu")
    count = None if vcpu is None else number(vcpu, None, "cpu.count", low=1, high=_MAX_VCPUS)
    online = None
    if vcpu is not None:
        online = number(vcpu, "current", "cpu.online", low=1, high=_MAX_VCPUS)
        if online is not None and online > (count or 1):
            problem = f"{online} CPUs at start, but at most {count or 1}"
            raise vcpu.error("vcpus", problem, attribute="current")
    if node is not None:
        node = node.into("cpu")
    topology = {} if node is None else _topology(node, count)
    model = None if node is None else node.child("model")
    vendor = None if node is None else node.child("vendor")
    cpu = Cpu(
        count=count,
        online=online,
        sockets=topology.get("sockets"),
        dies=topology.get("dies"),
        clusters=topology.get("clusters"),
        cores=topology.get("cores"),
        threads=topology.get("threads"),
        mode=None if node is None else choice(node, "mode", same(CpuMode), CpuMode.OTHER, "mode"),
        model=None if model is None else model.text("model"),
        vendor=None if vendor is None else vendor.text("vendor"),
        features=() if node is None else _cpu_features(node),
        placement=None if vcpu is None else cpu_list(vcpu, "cpuset", "cpu.placement"),
    )
    return None if cpu == Cpu() else cpu


def _topology(node: Node, count: int | None) -> dict[str, int | None]:
    found = node.child("topology")
    if found is None:
        return {}
    parts = {name: number(found, name, name, low=1, high=_MAX_VCPUS) for name in _TOPOLOGY}
    product = 1
    for part in parts.values():
        product *= part or 1
    if product != (count or 1):
        shape = " × ".join(f"{part} {name}" for name, part in parts.items() if part is not None)
        raise found.error("topology", f"{shape} make {product} CPUs, but <vcpu> says {count or 1}")
    return parts


def _cpu_features(node: Node) -> tuple[CpuFeature, ...]:
    policies = same(CpuFeaturePolicy)
    features: list[CpuFeature] = []
    for found in node.children("feature"):
        to = f"features[{len(features)}]"
        name = raw(found, "name", f"{to}.name")
        if name is None:
            raise found.error("feature", "a CPU feature without a name")
        policy = choice(found, "policy", policies, CpuFeaturePolicy.OTHER, f"{to}.policy")
        features.append(CpuFeature(name, policy))
    return tuple(features)


def read_memory(root: Node) -> Memory | None:
    """The main memory, from <memory>, <currentMemory>, <maxMemory> and <memoryBacking>.

    Raises:
        CorruptInput: more at start than there is, or no more than 2⁶⁴ bytes can express.
    """
    total, current = root.child("memory"), root.child("currentMemory")
    limit, backing = root.child("maxMemory"), root.child("memoryBacking")
    huge = None if backing is None else backing.child("hugepages")
    page = None if huge is None else next(iter(huge.children("page")), None)
    source = None if backing is None else backing.child("source")
    access = None if backing is None else backing.child("access")
    memory = Memory(
        size=None if total is None else size(total, None, "memory.size"),
        current=None if current is None else size(current, None, "memory.current"),
        maximum=None if limit is None else size(limit, None, "memory.maximum"),
        slots=None if limit is None else number(limit, "slots", "memory.slots", high=MAX_32),
        huge_pages=None if huge is None else huge.present("memory.huge_pages"),
        page_size=None
        if page is None
        else size(page, "size", "memory.page_size", "memory.huge_pages"),
        locked=flag(backing, "locked", "memory.locked"),
        shared=None if access is None else _shared(access),
        source=None if source is None else raw(source, "type", "memory.source"),
    )
    if total is not None and memory.size == 0:
        raise total.error("memory", "a machine without memory")
    if current is not None and (memory.current or 0) > (memory.size or 0) > 0:
        problem = f"{memory.current} bytes at start are more than the {memory.size} in <memory>"
        raise current.error("memory", problem)
    return None if memory == Memory() else memory


def _shared(access: Node) -> bool | None:
    mode = raw(access, "mode", "memory.shared")
    return None if mode is None else mode == "shared"


def read_numa(root: Node) -> tuple[NumaCell, ...]:
    """The NUMA cells that the guest sees.

    Raises:
        CorruptInput: two cells of one number.
    """
    parent = root.find("cpu", "numa")
    cells: list[NumaCell] = []
    for node in () if parent is None else parent.children("cell"):
        cell = node.into(f"numa[{len(cells)}]")
        numbered = number(cell, "id", "id", high=MAX_32)
        if numbered is not None and any(other.id == numbered for other in cells):
            raise cell.error("numa", f"a second NUMA cell {numbered}", attribute="id")
        distances = cell.child("distances")
        siblings = () if distances is None else distances.children("sibling")
        cells.append(
            NumaCell(
                id=numbered,
                cpus=cpu_list(cell, "cpus", "cpus"),
                memory=size(cell, "memory", "memory"),
                distances=tuple(_distance(item, i) for i, item in enumerate(siblings)),
            )
        )
    return tuple(cells)


def _distance(node: Node, index: int) -> NumaDistance:
    cell = number(node, "id", f"distances[{index}].cell", high=MAX_32)
    value = number(node, "value", f"distances[{index}].value", low=10, high=255)
    if cell is None or value is None:
        raise node.error("numa", "a distance needs the id of a cell and a value")
    return NumaDistance(cell, value)
