"""Which of VMware's network and sound cards serves for one of a machine's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmport_formats.machine.guest_os_table import Family
from vmport_formats.machine.ledger import Impact
from vmport_formats.machine.model import NicModel, SoundModel
from vmport_formats.machine.vmware.hardware import (
    NIC_HARDWARE,
    Change,
    guest_system,
    hardware_version,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vmport_formats.machine.guest_os import System
    from vmport_formats.machine.model import Machine, Nic, Sound


def nic_model(machine: Machine, nic: Nic) -> tuple[NicModel, Change | None]:
    """The network chip that VMware gives for `nic`, and why if it is another."""
    hardware = hardware_version(machine)
    if nic.model is not None and NIC_HARDWARE.get(nic.model, hardware + 1) <= hardware:
        return nic.model, None
    guest = guest_system(machine)
    chosen = _nic_for(guest, hardware)
    if nic.model is None:
        return chosen, Change("the source does not say which chip the card has")
    return chosen, Change(
        f"VMware has no {nic.model} card; {chosen} is the one that the guest most likely has a "
        "driver for",
        effect="the guest takes it for a new card: its name, and settings tied to that, may change",
        action="check the network settings inside the guest after the move",
    )


def _nic_for(guest: System | None, hardware: int) -> NicModel:
    if guest is None:
        return NicModel.E1000  # the chip for which most systems have a driver
    wanted = NicModel.E1000E
    if guest.family is Family.LINUX:
        wanted = NicModel.VMXNET3  # in the kernel since 2.6.32
    if guest.family is Family.WINDOWS:
        # In the box: PCNet until 2003, E1000 from Vista, E1000e from 8 and 2012.
        if guest.version < (2006,):
            wanted = NicModel.PCNET if guest.bits == 32 else NicModel.E1000
        elif guest.version < (2012,):
            wanted = NicModel.E1000
    return wanted if NIC_HARDWARE[wanted] <= hardware else NicModel.E1000


SOUND: Final[Mapping[SoundModel, SoundModel]] = {
    SoundModel.HDA: SoundModel.HDA,
    SoundModel.ICH6_HDA: SoundModel.HDA,
    SoundModel.ICH9_HDA: SoundModel.HDA,
    SoundModel.ES1370: SoundModel.ES1370,
    SoundModel.AC97: SoundModel.ES1370,
    SoundModel.SB16: SoundModel.SB16,
    SoundModel.VIRTIO: SoundModel.HDA,
    SoundModel.USB: SoundModel.HDA,
}
"""The sound card of VMware's (HD audio, Ensoniq, Sound Blaster) for each of the others."""


def sound_model(sound: Sound) -> tuple[SoundModel | None, Change | None]:
    """The sound card that VMware gives for `sound`, and why if it is another; None: it has none."""
    if sound.model is None:
        return SoundModel.HDA, Change("the source does not say which sound card it is")
    model = SOUND.get(sound.model)
    if model is sound.model or model is None:
        return model, None
    if model is SoundModel.HDA and sound.model in (SoundModel.ICH6_HDA, SoundModel.ICH9_HDA):
        return model, Change("VMware has one kind of HD audio", impact=Impact.NONE)
    return model, Change(
        f"VMware has no {sound.model} card",
        effect="the guest needs the driver of another sound card",
    )
