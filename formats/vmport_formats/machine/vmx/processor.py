"""Writes the processors, their topology and NUMA cells, and the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.machine.ledger import Impact
from vmport_formats.units import MIB, format_size

if TYPE_CHECKING:
    from vmport_formats.machine.model import Machine
    from vmport_formats.machine.vmx.text import VmxLines

_MEMORY_STEP: Final = 4  # MiB; VMware refuses anything between
_DEFAULT_MEMORY: Final = 1024  # MiB

_CORES_PER_SOCKET: Final = ((20, 256), (9, 64), (8, 32), (7, 8))
"""Most cores a socket, by the lowest virtual hardware version."""

_VIRTUALIZATION_FLAGS: Final = frozenset({"vmx", "svm"})


def write_cpu(vmx: VmxLines, machine: Machine, *, hardware: int) -> None:
    """Processors, their topology, and what they can do."""
    cpu = machine.cpu
    count = None if cpu is None else cpu.count
    at_start = (None if cpu is None else cpu.online) or count
    if at_start is None:
        vmx.defaulted("numvcpus", 1, "the source does not say how many processors there are")
    else:
        online = cpu is not None and cpu.online is not None
        vmx.kept("numvcpus", at_start, "cpu.online" if online else "cpu.count")
        if online and count == at_start:
            vmx.books.kept("cpu.count", place="numvcpus")
        elif online:
            vmx.adapted(
                "vcpu.hotadd",
                True,
                "cpu.count",
                before=f"up to {count}",
                why=f"VMware names no upper limit; processors can be added to the {at_start} there "
                "are at start",
            )
    if cpu is not None:
        _write_topology(vmx, machine, at_start or 1, hardware)
        if cpu.hot_add is not None:
            vmx.kept("vcpu.hotadd", cpu.hot_add, "cpu.hot_add")
        if cpu.hot_remove is not None:
            vmx.kept("vcpu.hotremove", cpu.hot_remove, "cpu.hot_remove")
    features = machine.features
    if features is not None and features.nested is not None:
        flags = [
            f"cpu.features[{index}]"
            for index, feature in enumerate(cpu.features if cpu is not None else ())
            if feature.name in _VIRTUALIZATION_FLAGS
        ]
        vmx.kept("vhv.enable", features.nested, "features.nested", *flags)
    if features is not None and features.pmu is not None:
        vmx.kept("vpmc.enable", features.pmu, "features.pmu")
    for index, item in enumerate(() if features is None else features.enlightenments):
        if (item.family, item.name) == ("kvm", "hidden") and item.enabled:
            vmx.kept("hypervisor.cpuid.v0", False, f"features.enlightenments[{index}]")
    _write_numa(vmx, machine)


def _write_topology(vmx: VmxLines, machine: Machine, at_start: int, hardware: int) -> None:
    cpu = machine.cpu
    levels = ("sockets", "dies", "clusters", "cores", "threads")
    stated = [level for level in levels if cpu is not None and getattr(cpu, level) is not None]
    if cpu is None or not stated:
        return
    paths = [f"cpu.{level}" for level in levels]
    wanted = (cpu.dies or 1) * (cpu.clusters or 1) * (cpu.cores or 1) * (cpu.threads or 1)
    limit = next((most for lowest, most in _CORES_PER_SOCKET if hardware >= lowest), 1)
    cores = next(n for n in range(min(wanted, limit, at_start), 0, -1) if at_start % n == 0)
    shape = {"sockets": at_start // cores, "dies": 1, "clusters": 1, "cores": cores, "threads": 1}
    if all(getattr(cpu, level) in (None, shape[level]) for level in levels):
        vmx.kept("cpuid.coresPerSocket", cores, *paths)
        return
    vmx.adapted(
        "cpuid.coresPerSocket",
        cores,
        *paths,
        before=" × ".join(_counted(getattr(cpu, level), level) for level in stated),
        why="VMware has sockets and cores only"
        if cores == wanted
        else f"VMware allows {limit} cores a socket, and only full sockets",
        effect=f"the guest sees {_counted(at_start // cores, 'sockets')} × "
        f"{_counted(cores, 'cores')}; software that is licensed by the socket or the core may "
        "count differently",
        impact=Impact.MINOR,
    )


def _counted(number: int, level: str) -> str:
    return f"{number} {level.removesuffix('s') if number == 1 else level}"


def _write_numa(vmx: VmxLines, machine: Machine) -> None:
    shares = {_cpu_count(cell.cpus) for cell in machine.numa if cell.cpus is not None}
    if len(machine.numa) < 2 or len(shares) != 1:
        return
    (share,) = shares
    cells = len(machine.numa)
    for index, cell in enumerate(machine.numa):
        vmx.adapted(
            "numa.vcpu.maxPerVirtualNode",
            share,
            *(f"numa[{index}].{part}" for part in ("id", "cpus", "memory")),
            before=f"cell {index}: CPUs {cell.cpus}"
            + ("" if cell.memory is None else f", {format_size(cell.memory)}"),
            why=f"VMware makes the {cells} cells itself, with {share} processors each, and "
            "divides the memory evenly",
        )


def _cpu_count(cpus: str) -> int:
    pairs = (part.partition("-") for part in cpus.split(","))
    return sum(int(last or first) - int(first) + 1 for first, _, last in pairs)


def write_memory(vmx: VmxLines, machine: Machine) -> None:
    """Main memory, in MiB and multiples of four."""
    memory = machine.memory
    size = None if memory is None else memory.size
    if memory is None or size is None:
        vmx.defaulted(
            "memsize",
            _DEFAULT_MEMORY,
            "the source does not say how much memory there is; VMware would give 32 MiB",
            action="set memsize to what the guest needs, in MiB",
            impact=Impact.MAJOR,
        )
        return
    step = _MEMORY_STEP * MIB
    whole = -(-size // step) * _MEMORY_STEP
    if whole * MIB == size:
        vmx.kept("memsize", whole, "memory.size")
    else:
        vmx.adapted(
            "memsize",
            whole,
            "memory.size",
            before=f"{size} bytes",
            why="VMware counts memory in MiB, in steps of four; rounded up",
        )
    if memory.current == size:
        vmx.books.kept("memory.current", place="memsize")
    for index, module in enumerate(machine.memory_modules):
        if module.model != "nvdimm":
            vmx.books.adapted(
                f"memory_modules[{index}]",
                place="memsize",
                before="a memory module" if module.size is None else format_size(module.size),
                after=str(whole),
                why="VMware has no memory modules; the main memory holds theirs already",
            )
    if memory.hot_add is not None:
        vmx.kept("mem.hotadd", memory.hot_add, "memory.hot_add")
    elif memory.maximum is not None:
        vmx.adapted(
            "mem.hotadd",
            True,
            "memory.maximum",
            before=f"up to {format_size(memory.maximum)}",
            why="VMware names no limit; memory can be added while the machine runs",
        )
    if memory.locked:
        vmx.kept("sched.mem.pin", True, "memory.locked")
        vmx.line("sched.mem.min", whole)
