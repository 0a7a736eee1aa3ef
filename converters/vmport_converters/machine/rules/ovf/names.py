"""The elements and attributes that OVF has, by the element they stand in: a table.

Source: DMTF DSP8023 1.1.0 and 2.0.1, and the CIM classes that its items extend.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SECTIONS: Final = _words("""
    DiskSection NetworkSection ResourceAllocationSection ProductSection AnnotationSection
    EulaSection StartupSection DeploymentOptionSection OperatingSystemSection InstallSection
    VirtualHardwareSection
""")

NEWER_SECTIONS: Final = _words("""
    SharedDiskSection EnvironmentFilesSection BootDeviceSection ScaleOutSection
    PlacementGroupSection PlacementSection EncryptionSection
""")
"""Of OVF 2."""

NEWER_ITEMS: Final = _words("StorageItem EthernetPortItem")
"""Of OVF 2."""

PARENTS: Final = {
    "DiskSection": _words("Envelope"),
    "SharedDiskSection": _words("Envelope"),
    "NetworkSection": _words("Envelope"),
    "DeploymentOptionSection": _words("Envelope"),
    "OperatingSystemSection": _words("VirtualSystem"),
    "InstallSection": _words("VirtualSystem"),
    "VirtualHardwareSection": _words("VirtualSystem"),
    "StartupSection": _words("VirtualSystemCollection"),
    "ResourceAllocationSection": _words("VirtualSystemCollection"),
    "ProductSection": _words("VirtualSystem VirtualSystemCollection"),
    "EulaSection": _words("VirtualSystem VirtualSystemCollection"),
    "AnnotationSection": _words("VirtualSystem VirtualSystemCollection"),
}
"""Where a section may stand, by DSP0243 1.1.1, table 2."""

_ANY_SECTION: Final = SECTIONS | NEWER_SECTIONS

CHILDREN: Final = {
    "Envelope": _ANY_SECTION | _words("References Strings VirtualSystem VirtualSystemCollection"),
    "VirtualSystem": _ANY_SECTION | _words("Info Name"),
    "VirtualSystemCollection": _ANY_SECTION
    | _words("Info Name VirtualSystem VirtualSystemCollection"),
    "References": _words("File"),
    "DiskSection": _words("Info Disk"),
    "SharedDiskSection": _words("Info SharedDisk"),
    "NetworkSection": _words("Info Network"),
    "Network": _words("Description NetworkPortProfile NetworkPortProfileURI"),
    "VirtualHardwareSection": _words("Info System Item StorageItem EthernetPortItem"),
    "DeploymentOptionSection": _words("Info Configuration"),
    "Configuration": _words("Label Description"),
    "OperatingSystemSection": _words("Info Description"),
    "ProductSection": _words("""
        Info Product Vendor Version FullVersion Full-version ProductUrl VendorUrl AppUrl Icon
        Category Property
    """),
    "Property": _words("Label Description Value"),
    "StartupSection": _words("Info Item"),
    "EulaSection": _words("Info License"),
    "AnnotationSection": _words("Info Annotation"),
    "InstallSection": _words("Info"),
    "ResourceAllocationSection": _words("Info Item StorageItem EthernetPortItem"),
}
"""OVF's own elements by their parent.  Parents that are not here hold something else."""

ATTRIBUTES: Final = {
    "Envelope": _words("version lang"),
    "File": _words("id href size compression chunkSize"),
    "Disk": _words("""
        diskId fileRef capacity capacityAllocationUnits format populatedSize parentRef
    """),
    "SharedDisk": _words("""
        diskId fileRef capacity capacityAllocationUnits format populatedSize parentRef
    """),
    "Network": _words("name"),
    "VirtualSystem": _words("id"),
    "VirtualSystemCollection": _words("id"),
    "VirtualHardwareSection": _words("required id transport configuration"),
    "OperatingSystemSection": _words("required id version"),
    "ProductSection": _words("required class instance"),
    "Property": _words("""
        key type value userConfigurable qualifiers required password isPassword configuration
    """),
    "Configuration": _words("id default"),
    "Item": _words(
        "required configuration bound id order startDelay waitingForGuest stopDelay "
        "startAction stopAction"
    ),
    "StorageItem": _words("required configuration bound"),
    "EthernetPortItem": _words("required configuration bound"),
}
"""OVF's own attributes by their element; ``required`` may stand on any section besides."""

ITEM_FIELDS: Final = _words("""
    Address AddressOnParent AllocationUnits AutomaticAllocation AutomaticDeallocation Caption
    ChangeableType ComponentSetting ConfigurationName Connection ConsumerVisibility Description
    ElementName Generation HostResource InstanceID InstanceId Limit MappingBehavior
    OtherResourceType Parent PoolID Reservation ResourceSubType ResourceType Role SoID
    SoOrgID VirtualQuantity VirtualQuantityUnits Weight BusNumber
    Access HostExtentName HostExtentNameFormat HostExtentNameNamespace HostExtentStartingAddress
    HostResourceBlockSize OtherHostExtentNameFormat OtherHostExtentNameNamespace
    VirtualResourceBlockSize
    AllowedPriorities AllowedToReceiveMACAddresses AllowedToReceiveVLANs
    AllowedToTransmitMACAddresses AllowedToTransmitVLANs ChangeableType DefaultPortVID
    DefaultPriority DesiredVLANEndpointMode GroupID ManagerID NetworkPortProfileID
    NetworkPortProfileIDType OtherEndpointMode OtherNetworkPortProfileIDTypeInfo PortCorrelationID
    PortVID Promiscuous ReceiveBandwidthLimit ReceiveBandwidthReservation
    SourceMACFilteringEnabled VSITypeID VSITypeIDVersion
""")
"""What an item may hold, of all three CIM classes."""

SYSTEM_FIELDS: Final = _words("""
    AutomaticRecoveryAction AutomaticShutdownAction AutomaticStartupAction
    AutomaticStartupActionDelay AutomaticStartupActionSequenceNumber Caption ChangeableType
    ConfigurationDataRoot ConfigurationFile ConfigurationID ConfigurationName CreationTime
    Description ElementName Generation InstanceID InstanceId LogDataRoot Notes RecoveryFile
    SnapshotDataRoot SoID SoOrgID SuspendDataRoot SwapFileDataRoot VirtualSystemIdentifier
    VirtualSystemType
""")

VMWARE_SECTIONS: Final = _words("""
    BootOrderSection IpAssignmentSection StorageSection StorageGroupSection CpuCompatibilitySection
    ExtraConfig Config AffinityGroupSection LicenseKeySection OvfUpdateSection HostSection
""")

SUBTYPES: Final = {
    5: _words("PIIX3 PIIX4 ICH6"),
    6: _words("buslogic lsilogic lsilogicsas VirtualSCSI virtio VirtioSCSI"),
    10: _words("PCNet32 E1000 E1000e VmxNet Vmxnet2 VmxNet3 virtio SriovEthernetCard ipoib"),
    15: _words("""
        vmware.cdrom.iso vmware.cdrom.atapi vmware.cdrom.passthrough vmware.cdrom.remoteatapi
        vmware.cdrom.remotepassthrough
    """),
    20: _words("AHCI vmware.sata.ahci vmware.nvme.controller VirtioSCSI NVMe"),
    23: _words("vmware.usb.ehci vmware.usb.xhci"),
}
"""Known values of ``ResourceSubType`` by ``ResourceType``; products read them in any case."""
