"""The keys that VMX files have, as a table, to tell a misspelled one from one that is just rare.

Nobody publishes a full list, and VMware products ignore keys that they do not know.  So the table
need not be complete: a key is reported only when it is one or two letters away from a known one.
What a group of keys holds behind an open prefix (``guestinfo.``) is the user's own affair.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.model import Found, Severity
from vmport_converters.machine.rules.spelling import Speller
from vmport_converters.machine.rules.vmx.view import ALL, RULES, at_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmport_converters.machine.rules.vmx.view import VmxView


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_UNIT: Final = """
    present fileName deviceType mode redo writeThrough startConnected autodetect clientDevice
    allowGuestConnectionControl exclusive shared sharing digestFilename ctkEnabled virtualSSD
    throughputCap shares parent vendor product serialNumber guestConnectionControl
    connectionStatus readOnly cacheSize downloadable diskSize uuid
"""
_CONTROLLER: Final = """
    present virtualDev sharedBus pciSlotNumber sasWWID busSharing pxm allowGuestConnectionControl
    hotplug subnqnUUID
"""

# Device families, with a # for each number, and what may follow their name.
_FAMILIES: Final = {
    "scsi#": _CONTROLLER,
    "sata#": _CONTROLLER,
    "nvme#": _CONTROLLER,
    "ide#": _CONTROLLER,
    "scsi#:#": _UNIT,
    "sata#:#": _UNIT,
    "nvme#:#": _UNIT,
    "ide#:#": _UNIT,
    "floppy#": _UNIT + " fileType bus",
    "ethernet#": """
        present connectionType virtualDev addressType address generatedAddress
        generatedAddressOffset checkMACAddress networkName vnet startConnected wakeOnPcktRcv
        linkStatePropagation.enable pciSlotNumber allowGuestConnectionControl uptCompatibility
        uptv2Enabled bsdName displayName exposeHypervisor features opromsize pvnID noPromisc
        noForgedSrcAddr dvs.switchId dvs.portId dvs.portgroupId dvs.connectionId
        externalId opaqueNetwork.id opaqueNetwork.type shares limit reservation coalescingScheme
        coalescingParams ctxPerDev pNicFeatures udpRSS rxbw.limit rxbw.burst rxbw.queuesize
        txbw.limit txbw.burst txbw.queuesize rxfi.droprate txfi.droprate pxm filter#.name
        filter#.onFailure filter#.param# filter#.parameters filter#.deviceId vnetAddress
        userAddress devName ftprotected reservation.level resourcepool.id
    """,
    "serial#": """
        present fileType fileName startConnected autodetect yieldOnMsrRead tryNoRxLoss
        network.endPoint vspc pipe.endPoint hardwareFlowControl allowGuestConnectionControl baseAddr
    """,
    "parallel#": """
        present fileName fileType startConnected autodetect bidirectional
        allowGuestConnectionControl
    """,
    "pcibridge#": "present virtualDev functions pciSlotNumber pxm",
    "vmci#": "present id pciSlotNumber unrestricted filter.enable",
    "hpet#": "present",
}

# Keys that stand alone.
_ALONE: Final = _words(
    """
    .encoding config.version virtualHW.version virtualHW.productCompatibility displayName
    displayName.value guestOS guestOS.detailed.data guestOSAltName annotation memsize numvcpus
    maxvcpus firmware nvram extendedConfigFile workingDir suspendDirectory snapshot.action
    snapshot.disabled snapshot.maxSnapshots snapshot.redoNotWithParent checkpoint.vmState
    checkpoint.vmState.readOnly checkpoint.mrev cleanShutdown softPowerOff uuid.bios uuid.location
    uuid.action vc.uuid bios.bootOrder bios.hddOrder bios.bootDelay bios.bootDeviceClasses
    bios.bootRetry.enabled bios.bootRetry.delay bios.forceSetupOnce bios440.filename
    efi64.filename efi32.filename uefi.secureBoot.enabled uefi.allowAuthBypass
    cpuid.coresPerSocket cpuid.coresPerSocket.cookie cpuid.numSMT vcpu.hotadd vcpu.hotremove
    mem.hotadd mem.hotplug mainMem.useNamedFile mainMem.backing mainmem.freeSpaceCheck
    MemTrimRate prefvmx.minVmMemPct prefvmx.useRecommendedLockedMemSize priority.grabbed
    priority.ungrabbed powerType.powerOff powerType.powerOn powerType.suspend powerType.reset
    svga.present svga.vramSize svga.autodetect svga.maxWidth svga.maxHeight svga.numDisplays
    svga.graphicsMemoryKB svga.guestBackedPrimaryAware mks.enable3d sound.present sound.virtualDev
    sound.fileName sound.autodetect sound.startConnected sound.pciSlotNumber usb.present
    usb.pciSlotNumber usb.generic.autoconnect usb.autoConnect.device0 ehci.present
    ehci.pciSlotNumber usb_xhci.present usb_xhci.pciSlotNumber hpet0.present vtpm.present
    vtpm.ekCRT vtpm.ekCSR managedvm.autoAddVTPM managedVM.ID encryption.keySafe encryption.data
    encryption.encryptedKey encryption.bundle encryption.required tools.syncTime
    tools.upgrade.policy tools.remindInstall toolScripts.afterPowerOn toolScripts.afterResume
    toolScripts.beforePowerOff toolScripts.beforeSuspend toolsInstallManager.updateCounter
    toolsInstallManager.lastInstallError disk.EnableUUID disk.locking ctkEnabled ctkDisallowed
    chipset.useAcpiBattery chipset.useApmBattery chipset.onlineStandby
    chipset.motherboardLayout gui.fullScreenAtPowerOn gui.exitAtPowerOff
    gui.lastPoweredViewMode gui.applyHostDisplayScalingToGuest gui.stretchGuestMode
    gui.viewModeAtPowerOn deploymentPlatform inVMTeam autostart machine.id msg.autoAnswer
    migrate.hostlog migrate.encryptionMode ftcpt.ftEncryptionMode vmxstats.filename
    virtualInfra.profile replay.supported replay.filename roamingVM.exitBehavior
    rtc.diffFromUTC rtc.startTime logging log.fileName log.keepOld log.rotateSize
    time.synchronize.continue time.synchronize.restore time.synchronize.resume.disk
    time.synchronize.shrink time.synchronize.tools.startup vhv.enable vvtd.enable
    vpmc.enable vmm.fullscreen vm.genid vm.genidX vm.createDate proxyApps.publishToHost
    floppy0.present keyboardAndMouseProfile keyboard.typematicMinDelay
    hypervisor.cpuid.v0 nestedHVEnabled acpi.smbiosVersion2.7 smbios.reflectHost
    sharedFolder.maxNum sharedFolder.option hgfs.mapRootShare hgfs.linkRootShare
    answer.msg.uuid.altered fileSearchPath parentDisplayName templateVM policy.vm.mvmtid
    monitor.virtual_exec monitor.phys_bits_used numa.autosize.cookie
    numa.autosize.vcpu.maxPerVirtualNode numa.nodeAffinity numa.vcpu.preferHT
    sched.cpu.min sched.cpu.max sched.cpu.shares sched.cpu.units sched.cpu.affinity
    sched.cpu.latencySensitivity sched.mem.min sched.mem.max sched.mem.minSize sched.mem.shares
    sched.mem.pin sched.mem.affinity sched.swap.dir sched.swap.derivedName
    RemoteDisplay.vnc.enabled RemoteDisplay.vnc.port RemoteDisplay.vnc.key
    RemoteDisplay.vnc.password RemoteDisplay.maxConnections suspend.disabled
    """
)

# Everything behind these is free, or too varied for a list.
_OPEN: Final = _words(
    """
    guestinfo guestinfo_extra isolation monitor monitor_control debugstub replay remotedisplay
    vmotion svga mks gui hgfs sharedfolder# unity numa numa.autosize cpuid featmask pcipassthru#
    usb usb_xhci ehci ehci:# usb:# usb_xhci:# smbios hypervisor smc vmx vmx.log answer hints sched
    log tools toolscripts toolsinstallmanager guestos annotation
    checkpoint snapshot policy vc vmprofile ws mouse keyboard vprobe vsock cpucount vcpu vcpu#
    nvdimm nvdimm# sriov ft ftcpt migrate evc featurecompat time rtc msg bios440 efi efi32
    efi64 chipset encryption sgx vnc vmi serial vmsafe precisionclock# watchdogtimer
    dataset datasets vmcrypto tpm managedvm prefvmx cores disk scsi sata nvme ide
    floppy ethernet vmxnet# hard-disk hostonly snapshot# svga# board-id hw serialnumber
    """
)

# Known keys with an open prefix that are like no other key.
_AMONG_OPEN: Final = frozenset({"cpuid.coresPerSocket"})

_NUMBER: Final = re.compile(r"\d+")
_FAMILY_NAMES: Final = frozenset(_FAMILIES)
_PROPERTIES: Final = {name: _words(text) for name, text in _FAMILIES.items()}
_FOLDED: Final = {
    name: frozenset(word.lower() for word in words) for name, words in _PROPERTIES.items()
}
_ALONE_FOLDED: Final = frozenset(name.lower() for name in _ALONE)


@RULES.rule("misspelled-key", Severity.WARNING, affects=ALL)
def misspelled_key(vmx: VmxView) -> Iterator[Found]:
    """A key is unknown, and one or two letters away from a known one.

    VMware products ignore keys that they do not know, so the setting that was meant has no
    effect.
    """
    speller = Speller()
    for entry in vmx.document:
        meant = meant_by(entry.key, speller)
        if meant is not None:
            yield at_key(
                entry,
                f"{entry.key} is no known key; did you mean {meant}?",
                f"write {meant}, or remove the line",
            )


def meant_by(key: str, speller: Speller) -> str | None:
    """The known key that `key` was most likely meant to be; None: it is known, or like none."""
    folded = key.lower()
    if folded in _ALONE_FOLDED:
        return None
    head, dot, rest = folded.partition(".")
    pattern = _NUMBER.sub("#", head)
    if pattern in _FOLDED:
        return _meant_property(key, pattern, _NUMBER.sub("#", rest), speller) if dot else None
    if pattern in _OPEN:
        return speller.nearest(key, _AMONG_OPEN)
    if pattern != head and dot:
        family = speller.nearest(pattern, _FAMILY_NAMES)
        if family is None or family.count("#") != pattern.count("#"):
            return None
        numbers = iter(_NUMBER.findall(head))
        return _NUMBER.sub("#", family).replace("#", "{}").format(*numbers) + key[len(head) :]
    return speller.nearest(key, _ALONE)


def _meant_property(key: str, family: str, rest: str, speller: Speller) -> str | None:
    if rest in _FOLDED[family]:
        return None
    meant = speller.nearest(rest, _PROPERTIES[family])
    if meant is None or "#" in meant or "#" in rest:
        return None
    return key[: key.index(".") + 1] + meant
