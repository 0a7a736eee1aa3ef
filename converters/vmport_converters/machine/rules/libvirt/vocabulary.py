"""The elements, attributes and values of libvirt's domain XML: a table, and how to look in it.

libvirt's own schema says of a wrong document only that something is wrong with its largest element.
This table is there to find the guilty element.  It holds what libvirt 9.0 to 11.3 know, and what
is known to have come since; a test compares it with the schema of the libvirt that is installed.

A line of the table is ``names: contents``.  A name is that of an element, or ``parent/name`` where
the same name means something else below that parent.  Contents are child elements, ``@attributes``
with their values when these are few, ``=values`` of the text, ``$macros``, ``%lists of values``,
``*`` when anything goes, and ``-`` when there is nothing.  An element without a line has neither
attributes nor children.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What one element may hold."""

    children: frozenset[str] = frozenset()
    attributes: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    """With the values that each may have; None when they are not a short list."""
    values: frozenset[str] | None = None
    """Of the text; None when it is not a short list."""
    open: bool = False
    """Whether it may hold anything."""


_LISTS: Final = {
    "%switch": "off|on",
    "%yesno": "no|yes",
    "%format": "bochs|cloop|cow|dir|dmg|fat|iso|luks|ploop|qcow|qcow2|qed|raw|vdi|vhd|vmdk|vpc",
    "%chardev": "dbus|dev|file|nmdm|null|pipe|pty|qemu-vdagent|spiceport|spicevmc|stdio|tcp|udp|"
    "unix|vc",
    "%storage": "block|dir|file|network|nvme|vhostuser|vhostvdpa|volume",
    "%virtio": "virtio|virtio-non-transitional|virtio-transitional",
    "%startup": "mandatory|optional|requisite",
}

_MACROS: Final = {
    "$pciopts": "@iommu=%switch @ats=%switch @packed=%switch @page_per_vq=%switch",
    "$pci": "@domain @bus @slot @function @multifunction=%switch",
    "$limits": """
        total_bytes_sec read_bytes_sec write_bytes_sec total_iops_sec read_iops_sec write_iops_sec
        total_bytes_sec_max read_bytes_sec_max write_bytes_sec_max total_iops_sec_max
        read_iops_sec_max write_iops_sec_max size_iops_sec group_name total_bytes_sec_max_length
        read_bytes_sec_max_length write_bytes_sec_max_length total_iops_sec_max_length
        read_iops_sec_max_length write_iops_sec_max_length
    """,
}

_TABLE: Final = """
domain: @type=bhyve|hvf|hyperv|kqemu|kvm|lxc|openvz|phyp|qemu|test|uml|vbox|vmware|vz| xen @id
    name uuid genid title description metadata cpu sysinfo bootloader bootloader_args os clock
    memory maxMemory currentMemory memoryBacking vcpu vcpus iothreads iothreadids
    defaultiothread blkiotune memtune cputune numatune resource features on_reboot on_poweroff
    on_crash on_lockfailure pm perf idmap devices seclabel keywrap launchSecurity throttlegroups
metadata: *
cpu: @mode=custom|host-model|host-passthrough|maximum @match=exact|minimum|strict
    @check=full|none|partial @migratable=%switch @deprecated_features=%switch model vendor
    topology feature numa cache maxphysaddr
model: @fallback=allow|forbid @vendor_id
controller/model: @name=i82801b11-bridge|ioh3420|pci-bridge|pcie-pci-bridge|pcie-root-port|pxb|
    pxb-pcie|spapr-pci-host-bridge|x3130-upstream|xio3130-downstream
interface/model: @type
video/model: @type=bochs|cirrus|gop|none|qxl|ramfb|vbox|vga|virtio|vmvga|xen @ram @vgamem
    @vram64 @vram @heads @primary=%yesno @blob=%switch acceleration resolution
target/model: @name=16550a|isa-debugcon|isa-serial|pci-serial|pl011|sclpconsole|sclplmconsole|
    spapr-vty|usb-serial
shmem/model: @type=ivshmem|ivshmem-doorbell|ivshmem-plain
vendor oemStrings/entry label features/acpi iothreads target/node serial product
    source/interface block: -
source/vendor queue source/product audio: @id
topology: @sockets @dies @cores @threads @clusters
feature: @policy=disable|forbid|force|optional|require @name
firmware/feature: @enabled=%yesno @name=enrolled-keys|secure-boot
numa: cell interconnects
cell: @id @cpus @memory @unit @memAccess=private|shared @discard=%yesno distances cache
distances: sibling
sibling: @id @value
cache: @level @associativity=direct|full|none @policy=none|writeback|writethrough size line
cpu/cache: @level=1|2|3 @mode=disable|emulate|passthrough
cachetune/cache: @id @level @type=both|code|data @size @unit
binary/cache: @mode=always|none
size max_size currentMemory hard_limit soft_limit min_guarantee swap_hard_limit tseg maxpagesize
    tb-cache pcihole64 space_hard_limit space_soft_limit target/block pagesize alignsize
    requested current: @unit
cache/size line: @value @unit
interconnects: latency bandwidth
latency: @initiator @target @cache @type=access|read|write @value
bandwidth: @initiator @target @cache @type=access|read|write @value @unit
interface/bandwidth: @classID inbound outbound
maxphysaddr: @mode=emulate|passthrough @bits @limit
sysinfo: @type=fwcfg|smbios bios system baseBoard chassis oemStrings entry
bios system baseBoard chassis oemStrings: entry
os/bios: @useserial=%yesno @rebootTimeout
entry: @name=date|release|vendor|version
system/entry: @name=family|manufacturer|product|serial|sku|uuid|version
baseBoard/entry: @name=asset|location|manufacturer|product|serial|version
chassis/entry: @name=asset|manufacturer|serial|sku|version
sysinfo/entry: @name @file
os: @firmware=bios|efi type kernel initrd root cmdline dtb firmware loader nvram boot bootmenu
    smbios bios acpi init initarg initenv initdir inituser initgroup shim varstore
type: @arch=aarch64|alpha|armv6l|armv7l|cris|i686|ia64|lm32|loongarch64|m68k|
    microblaze|microblazeel|mips|mips64|mips64el|mipsel|openrisc|parisc|parisc64|
    ppc|ppc64|ppc64le|ppcemb|riscv32|riscv64|s390|s390x|sh4|sh4eb|sparc|sparc64|
    unicore32|x86_64|xtensa|xtensaeb @machine
firmware: feature
loader: @readonly=%yesno @secure=%yesno @type=pflash|rom @stateless=%yesno @format=qcow2|raw
nvram: @template @type=%storage @templateFormat=qcow2|raw @format=qcow2|raw source
devices/nvram: address
source: @mode @path @host @service @channel @master @slave @append=%switch @tls=%yesno reconnect
    seclabel clipboard mouse
nvram/source disk/source mirror/source backingStore/source: @file @fdgroup @index
    @startupPolicy=%startup @dev @dir
    @protocol=ftp|ftps|gluster|http|https|iscsi|nbd|nfs|rbd|sheepdog|ssh|tftp|vxhs @name
    @tls=%yesno @tlsHostname @query @pool @volume @mode=direct|host @type=pci|unix @namespace
    @managed=%yesno @path slices privateData encryption seclabel reservations host snapshot
    config auth initiator cookies readahead timeout ssl identity address reconnect dataStore
    knownHosts
reservations/source: @type=unix @path @mode=client|server reconnect
memoryBacking/source: @type=anonymous|file|memfd
dataStore/source: @file @fdgroup @startupPolicy=%startup @dev @dir @pool @volume
    @mode=direct|host @type=pci|unix @namespace @managed=%yesno @path
    @protocol=ftp|ftps|gluster|http|https|iscsi|nbd|nfs|rbd|sheepdog|ssh|tftp|vxhs @name
    @tls=%yesno @tlsHostname @query encryption seclabel reservations address reconnect host
    snapshot config auth initiator cookies readahead timeout ssl knownHosts identity
filesystem/source: @file @dev @dir @socket @name @usage @units @pool @volume
interface/source: @bridge @macTableManager=kernel|libvirt @network @portgroup @portid @type=unix
    @path @mode @dev @name @address @port @missing=%yesno @switchid @portgroupid @connectionid
    ip route reconnect local vendor product address
input/source: @evdev @dev @grab=all
    @grabToggle=alt-alt|ctrl-ctrl|ctrl-scrolllock|meta-meta|scrolllock|shift-shift
    @repeat=%switch
hostdev/source: @startupPolicy=%startup @writeFiltering=%yesno @guestReset=off|on|uninitialized
    @protocol=adapter|iscsi|vhost @name @wwpn address vendor product adapter host auth initiator
    block char interface
backend/source: @mode @path @host @service @channel @master @slave @append=%switch @tls=%yesno
    @type=dir|file|unix reconnect seclabel clipboard mouse
memory/source: pagesize nodemask path alignsize pmem
slices: slice
slice: @type=storage @offset @size
encryption: @format=default|luks|luks-any|luks2|qcow @engine=librbd|qemu secret cipher ivgen
backend/encryption: @secret
secret: @type=passphrase @uuid @usage
auth/secret: @type=ceph|iscsi @uuid @usage
cipher: @name @size @mode @hash
keywrap/cipher: @name=aes|dea @state=%switch
ivgen: @name @hash
seclabel: @model @relabel=%yesno @labelskip=yes label
domain/seclabel: @model @type=dynamic|none|static @relabel=%yesno label imagelabel baselabel
target/label: size
reservations: @managed=%yesno source
reconnect: @enabled=%yesno @timeout @delay
host: @transport=rdma|tcp|unix @name @port @socket
driver/host: @csum=%switch @gso=%switch @tso4=%switch @tso6=%switch @ecn=%switch @ufo=%switch
    @mrg_rxbuf=%switch
snapshot iqn cookie initenv backenddomain alias: @name
config: @file
auth: @username secret
initiator: iqn
cookies: cookie
readahead thread_pool mtu: @size
timeout: @seconds
ssl: @verify=%yesno
identity: @user @group @username @keyfile @agentsock
address: @type=ccid|ccw|dimm|drive|isa|pci|spapr-vio|unassigned|usb|virtio-mmio| virtio-serial
    $pci @controller @target @unit @port @reg @cssid @ssid @devno @iobase @irq @base zpci
source/address: $pci @device @type=pci|usb @target @unit @uuid
parentaddr/address: $pci
target/address: @base
dataStore: @type=%storage format source
format: @type=%format metadata_cache
metadata_cache: max_size
knownHosts backend/device script downscript server quoteGenerationService: @path
boot: @order @loadparm
os/boot: @dev=cdrom|fd|hd|network
bootmenu: @enable=%yesno @timeout
smbios: @mode=emulate|host|sysinfo
acpi: @index @nodeset
os/acpi: table
table: @type=msdm|raw|rawset|slic
clock: @offset=absolute|localtime|timezone|utc|variable @adjustment @timezone
    @basis=localtime|utc @start timer
timer: @name=armvtimer|hpet|hypervclock|kvmclock|pit|platform|rtc|tsc
    @track=boot|guest|realtime|wall @tickpolicy=catchup|delay|discard|merge @frequency
    @mode=auto|emulate|native|paravirt|smpsafe @present=%yesno catchup
catchup: @threshold @slew @limit
memory: @unit @dumpCore=%switch
numatune/memory: @mode=interleave|preferred|restrictive|strict @placement=auto|static @nodeset
devices/memory: @model=dimm|nvdimm|sgx-epc|virtio-mem|virtio-pmem @access=private|shared
    @discard=%yesno uuid source target address alias acpi
maxMemory: @unit @slots
memoryBacking: hugepages nosharepages locked source access allocation discard
hugepages: page
page: @size @unit @nodeset
access: @mode=private|shared
allocation: @mode=immediate|ondemand @threads
vcpu: @placement=auto|static @cpuset @current
vcpus/vcpu: @id @enabled=%yesno @hotpluggable=%yesno @order
vcpus: vcpu
driver/iothreads iothreadids: iothread
iothread: @id @thread_pool_min @thread_pool_max poll
iothreads/iothread: @id queue
poll: @max @grow @shrink
defaultiothread: @thread_pool_min @thread_pool_max
blkiotune: weight device
device: path weight read_iops_sec write_iops_sec read_bytes_sec write_bytes_sec
memtune: hard_limit soft_limit min_guarantee swap_hard_limit
cputune: shares global_period global_quota period quota emulator_period emulator_quota
    iothread_period iothread_quota vcpupin emulatorpin iothreadpin vcpusched iothreadsched
    emulatorsched cachetune memorytune
vcpupin: @vcpu @cpuset
emulatorpin: @cpuset
iothreadpin: @iothread @cpuset
vcpusched: @vcpus @scheduler=batch|fifo|idle|rr @priority
iothreadsched: @iothreads @scheduler=batch|fifo|idle|rr @priority
emulatorsched: @scheduler=batch|fifo|idle|rr @priority
cachetune: @vcpus @id cache monitor
monitor: @level @vcpus
memorytune/monitor: @vcpus
memorytune: @vcpus node monitor
node: @id @bandwidth
numatune: memory memnode
memnode: @cellid @mode=interleave|preferred|restrictive|strict @nodeset
resource: partition fibrechannel
fibrechannel: @appid
features: pae apic acpi hap hyperv viridian kvm xen privnet pvspinlock capabilities pmu vmport
    gic smm ioapic hpt vmcoreinfo htm nested-hv msrs ccf-assist cfpc sbbc ibs tcg async-teardown
    ras ps2 aia
apic: @eoi=%switch
hap relaxed vapic vpindex runtime synic direct reset frequencies reenlightenment extended ipi
    evmcs avic emsr_bitmap xmm_input hidden hint-dedicated poll-control pv-ipi e820_host
    pvspinlock audit_control audit_write block_suspend chown dac_override dac_read_search fowner
    fsetid ipc_lock ipc_owner kill lease linux_immutable mac_admin mac_override mknod net_admin
    net_bind_service net_broadcast net_raw setgid setfcap setpcap setuid sys_admin sys_boot
    sys_chroot sys_module sys_nice sys_pacct sys_ptrace sys_rawio sys_resource sys_time
    sys_tty_config syslog wake_alarm pmu vmport vmcoreinfo htm nested-hv ccf-assist ras ps2:
    @state=%switch
hyperv: @mode=custom|host-model|passthrough relaxed vapic spinlocks vpindex runtime synic stimer
    reset vendor_id frequencies reenlightenment tlbflush ipi evmcs avic emsr_bitmap xmm_input
spinlocks: @state=%switch @retries
stimer: @state=%switch direct
vendor_id: @state=%switch @value
tlbflush: @state=%switch direct extended
kvm: hidden hint-dedicated poll-control pv-ipi dirty-ring
dirty-ring: @state=%switch @size
xen: e820_host passthrough
passthrough: @state=%switch @mode
capabilities: @policy=allow|default|deny audit_control audit_write block_suspend chown
    dac_override dac_read_search fowner fsetid ipc_lock ipc_owner kill lease linux_immutable
    mac_admin mac_override mknod net_admin net_bind_service net_broadcast net_raw setgid setfcap
    setpcap setuid sys_admin sys_boot sys_chroot sys_module sys_nice sys_pacct sys_ptrace
    sys_rawio sys_resource sys_time sys_tty_config syslog wake_alarm
devices/lease: lockspace key target
gic: @version=2|3|host
smm: @state=%switch tseg
ioapic: @driver=kvm|qemu
hpt: @resizing=disabled|enabled|required maxpagesize
msrs: @unknown=fault|ignore
cfpc sbbc: @value=broken|fixed|workaround
ibs: @value=broken|fixed-ccd|fixed-ibs|fixed-na|workaround
tcg: tb-cache
async-teardown suspend-to-mem suspend-to-disk: @enabled=%yesno
aia: @value=aplic|aplic-imsic|none
pm: suspend-to-mem suspend-to-disk
perf: event
event: @name=alignment_faults|branch_instructions|branch_misses|bus_cycles|
    cache_misses|cache_references|cmt|context_switches|cpu_clock|cpu_cycles|
    cpu_migrations|emulation_faults|instructions|mbml|mbmt|page_faults|
    page_faults_maj|page_faults_min|ref_cpu_cycles|stalled_cycles_backend|
    stalled_cycles_frontend|task_clock @enabled=%yesno
idmap: uid gid
uid gid: @start @target @count
devices: emulator disk controller lease filesystem interface input sound audio hostdev graphics
    video console parallel serial channel smartcard hub redirdev redirfilter rng tpm shmem
    memory watchdog memballoon nvram panic iommu vsock crypto pstore
disk: @device=cdrom|disk|floppy|lun @type=%storage @rawio=%yesno @sgio=filtered|unfiltered
    @model=%virtio @snapshot=external|internal|manual|no source driver mirror auth target boot
    backenddomain readonly shareable transient serial encryption iotune alias acpi address
    geometry blockio wwn vendor product backingStore privateData throttlefilters
driver: $pciopts
disk/driver: @name
    @type=aio|bochs|cloop|cow|dir|dmg|fat|iso|luks|ploop|qcow|qcow2|qed|raw|vdi|vhd| vmdk|vpc
    @cache=default|directsync|none|unsafe|writeback|writethrough
    @error_policy=enospace|ignore|report|stop @rerror_policy=ignore|report|stop
    @io=io_uring|native|threads @ioeventfd=%switch @event_idx=%switch @copy_on_read=%switch
    @discard=ignore|unmap @iothread @detect_zeroes=off|on|unmap @queues @queue_size $pciopts
    @discard_no_unref=%switch metadata_cache iothreads statistics
controller/driver: @queues @cmd_per_lun @max_sectors @ioeventfd=%switch @iothread $pciopts
    iothreads
filesystem/driver: @type=handle|loop|mtp|nbd|path|ploop|virtiofs @format=%format
    @wrpolicy=immediate $pciopts @queue
interface/driver: @name=kvm|qemu|vfio|vhost|xen @queues @rx_queue_size @tx_queue_size
    @txmode=iothread|timer @ioeventfd=%switch @event_idx=%switch $pciopts @rss=%switch
    @rss_hash_report=%switch @model host guest
hostdev/driver: @name=kvm|vfio|xen @model @iommufd=%yesno
video/driver: $pciopts @name=qemu|vhostuser @vgaconf=io|off|on
iommu/driver: @intremap=%switch @caching_mode=%switch @eim=%switch @iotlb=%switch @aw_bits
    @dma_translation=%switch @passthrough=%switch @xtsup=%switch @accel=%switch @pciBus @granule
    @ats=%switch @ril=%switch @pasid=%switch @oas @ssidsize @cmdqv=%switch
mirror: @file @format=%format @job=active-commit|copy @type=%storage @ready=abort|pivot|yes
    source format backingStore
backingStore: @index @type=%storage source format backingStore
target: @type=isa-debug|isa-serial|lxc|openvz|pci-serial|sclp|sclp-serial|sclplm|serial|
    spapr-vio-serial|system-serial|uml|usb-serial|virtio|xen @port model
disk/target: @dev @bus=fdc|ide|nvme|sata|scsi|sd|uml|usb|virtio|xen @tray=closed|open
    @removable=%switch @rotation_rate
controller/target: @chassisNr @chassis @port @busNr @index @hotplug=%switch @memReserve node
lease/target: @path @offset
filesystem/target: @dir
interface/target: @dev @managed=%yesno
channel/target: @type=guestfwd|virtio|xen @address @port @name @state=connected|disconnected
memory/target: @dynamicMemslots=%yesno size node block requested current label readonly address
transient: @shareBacking=%yesno
devices/serial parallel: @type=%chardev @tty source protocol log target alias acpi address
iotune throttlegroup: $limits
zpci: @uid @fid
geometry: @cyls @heads @secs @trans=auto|lba|none
blockio: @logical_block_size @physical_block_size @discard_granularity
throttlefilters: throttlefilter
throttlefilter: @group
controller: @index @type=ccid|fdc|ide|isa|nvme|pci|sata|scsi|usb|virtio-serial|xenbus
    @model=am53c974|auto|buslogic|dc390|dmi-to-pci-bridge|ehci|ibmvscsi|ich6|
    ich9-ehci1|ich9-uhci1|ich9-uhci2|ich9-uhci3|lsilogic|lsisas1068|lsisas1078|
    ncr53c90|nec-xhci|none|pci-bridge|pci-expander-bus|pci-ohci|pci-root|
    pcie-expander-bus|pcie-root|pcie-root-port|pcie-switch-downstream-port|
    pcie-switch-upstream-port|pcie-to-pci-bridge|piix3|piix3-uhci|piix4|piix4-uhci|
    qemu-xhci|qusb1|qusb2|virtio|virtio-non-transitional|virtio-scsi|
    virtio-transitional|vmpvscsi|vt82c686b-uhci @ports @vectors @maxGrantFrames
    @maxEventChannels alias acpi address master model target pcihole64 driver serial
master: @startport
filesystem: @model=%virtio @type=bind|block|file|mount|ram|template|volume
    @accessmode=mapped|passthrough|squash @multidevs=default|forbid|remap|warn @fmode @dmode
    driver source target readonly boot alias acpi address space_hard_limit space_soft_limit
    binary idmap
binary: @path @xattr=%switch cache sandbox lock thread_pool openfiles
sandbox: @mode=chroot|namespace
lock: @posix=%switch @flock=%switch
openfiles frames: @max
interface: @type=bridge|client|direct|ethernet|hostdev|internal|mcast|network|null|server|
    udp|user|vdpa|vds|vhostuser @managed=%yesno @trustGuestRxFilters=%yesno source virtualport
    link mtu coalesce target guest mac ip route portForward script downscript backenddomain
    model backend driver alias acpi address filterref tune boot rom bandwidth vlan port teaming
ip: @address @family @prefix @peer
route: @family @address @netmask @prefix @gateway @metric
local: @address @port
virtualport: @type=802.1Qbg|802.1Qbh|midonet|openvswitch parameters
parameters: @managerid @typeid @typeidversion @instanceid @profileid @interfaceid
link: @state=down|up
coalesce: rx
rx: frames
guest: @dev @actual
driver/guest: @csum=%switch @tso4=%switch @tso6=%switch @ecn=%switch @ufo=%switch
mac: @address @type=generated|static @check=%yesno @currentAddress
portForward: @proto=tcp|udp @address @dev range
range: @start @end @to @exclude=%yesno
backend: @type=default|passt @tap @vhost @logFile @hostname @fqdn
rng/backend: @model=builtin|egd|random @type=%chardev source protocol log
tpm/backend: @type=emulator|external|passthrough @persistent_state=%yesno @version=1.2|2.0
    @debug device encryption active_pcr_banks source profile
crypto/backend: @model=builtin|lkcf @queues
filterref: @filter parameter
parameter: @name @value
tune: sndbuf
rom: @enabled=%yesno @bar=%switch @file
inbound outbound: @average @peak @floor @burst
vlan: @trunk=yes tag
tag: @id @nativeMode=tagged|untagged
port: @isolated=%yesno
teaming: @type=persistent|transient @persistent
input: @type=evdev|keyboard|mouse|passthrough|tablet @bus=ps2|usb|virtio|xen @model=%virtio
    driver source alias acpi address
audio/input output: @mixingEngine=%yesno @fixedSettings=%yesno @voices @bufferLength @dev
    @bufferCount @serverName @clientName @connectPorts @exactName=%yesno @tryPoll=%yesno @name
    @streamName @latency settings
sound: @model=ac97|es1370|hda|ich6|ich7|ich9|pcspk|sb16|usb|virtio @multichannel=%yesno @streams
    alias acpi address audio codec driver
devices/audio: @id @timerPeriod
    @type=alsa|coreaudio|dbus|file|jack|none|oss|pipewire|pulseaudio|sdl|spice @tryMMap=%yesno
    @exclusive=%yesno @dspPolicy @serverName @driver=alsa|arts|esd|pulseaudio @path @runtimeDir
    input output
codec: @type=duplex|micro|output
settings: @frequency @channels @format=f32|s16|s32|s8|u16|u32|u8
hostdev: @mode=capabilities|subsystem @managed=%yesno
    @type=mdev|misc|net|pci|scsi|scsi_host|storage|usb @sgio=filtered|unfiltered @rawio=%yesno
    @model=vfio-ap|vfio-ccw|vfio-pci|virtio|virtio-non-transitional| virtio-transitional
    @ramfb=%switch @display=%switch driver teaming source ip route alias acpi boot rom address
    readonly shareable
adapter: @type=fc_host|scsi_host @name @parent @managed=%yesno @parent_wwnn @parent_wwpn
    @parent_fabric_wwn @wwnn @wwpn parentaddr
parentaddr: @unique_id address
graphics: @type=dbus|desktop|egl-headless|rdp|sdl|spice|vnc @display @xauth @fullscreen=%yesno
    @port @autoport=%yesno @websocket @listen @sharePolicy=allow-exclusive|force-shared|ignore
    @powerControl=%yesno @socket @passwd @keymap @passwdValidTo @connected=disconnect|fail|keep
    @tlsPort @defaultMode=any|insecure|secure @address @p2p=%yesno @replaceUser=%yesno
    @multiUser=%yesno @username gl audio listen channel image jpeg zlib playback streaming
    clipboard mouse filetransfer
gl: @enable=%yesno @rendernode
listen: @type=address|network|none|socket @address @network @socket
channel: @name=cursor|display|inputs|main|playback|record|smartcard|usbredir
    @mode=any|insecure|secure
devices/channel: @type=%chardev source protocol log target alias address
image: @compression=auto_glz|auto_lz|glz|lz|off|quic
jpeg zlib: @compression=always|auto|never
playback: @compression=%switch
streaming: @mode=all|filter|off
clipboard: @copypaste=%yesno
mouse: @mode=client|server
filetransfer: @enable=%yesno
video: driver model alias acpi address
acceleration: @accel3d=%yesno @accel2d=%yesno @rendernode
resolution: @x @y
console: @tty @type=%chardev source protocol log target alias acpi address
protocol: @type=raw|telnet|telnets|tls
log: @file @append=%switch
smartcard: @mode=host|host-certificates|passthrough @type=%chardev certificate database source
    protocol log target acpi address
hub: @type=usb alias address
redirdev: @bus=usb @type=%chardev source protocol log alias address boot
redirfilter: usbdev
usbdev: @allow=%yesno @class @vendor @product @version
rng: @model=%virtio backend driver rate alias acpi address
rate: @bytes @period
tpm: @model=spapr-tpm-proxy|tpm-crb|tpm-spapr|tpm-tis backend alias address
active_pcr_banks: sha1 sha256 sha384 sha512
profile: @source @removeDisabled=check|fips-host @name
shmem: @name @role=master|peer model size server msi alias acpi address
msi: @ioeventfd=%switch @vectors
watchdog: @model=diag288|i6300esb|ib700|itco
    @action=dump|inject-nmi|none|pause|poweroff|reset|shutdown alias acpi address
memballoon: @model=none|virtio|virtio-non-transitional|virtio-transitional|xen
    @autodeflate=%switch @freePageReporting=%switch alias acpi address stats driver
stats: @period
panic: @model=hyperv|isa|pseries|pvpanic|s390 alias address
iommu: @model=amd|intel|smmuv3|virtio driver acpi address alias
vsock: @model=%virtio cid address alias acpi driver
cid: @auto=%yesno @address
crypto: @model=virtio @type=qemu backend driver alias address
pstore: @backend=acpi-erst path size address alias
keywrap: cipher
launchSecurity: @type=s390-pv|sev|sev-snp|tdx @kernelHashes=%yesno @authorKey=%yesno
    @vcek=%yesno cbitpos reducedPhysBits policy handle dhCert session guestVisibleWorkarounds
    idBlock idAuth hostData mrConfigId mrOwner mrOwnerConfig quoteGenerationService
throttlegroups: throttlegroup
varstore: @path @template
on_poweroff on_reboot: =destroy|preserve|rename-restart|restart
on_crash: =coredump-destroy|coredump-restart|destroy|preserve|rename-restart|restart
on_lockfailure: =ignore|pause|poweroff|restart
"""


def vocabulary_of(path: tuple[str, ...]) -> Vocabulary:
    """What the element at `path`, a tuple of names from ``domain`` down, may hold."""
    table = _table()
    if len(path) > 1:
        found = table.get(f"{path[-2]}/{path[-1]}")
        if found is not None:
            return found
    return table.get(path[-1], _NOTHING)


@cache
def parents_of(name: str) -> tuple[str, ...]:
    """The elements that may hold an element called `name`."""
    holders = {key.rpartition("/")[2] for key, held in _table().items() if name in held.children}
    return tuple(sorted(holders))


_NOTHING: Final = Vocabulary()


@cache
def _table() -> dict[str, Vocabulary]:
    """The table, by name and by ``parent/name``."""
    found: dict[str, Vocabulary] = {}
    for line in re.split(r"\n(?! )", re.sub(r"\|\s+", "|", _TABLE.strip())):
        names, _, contents = line.partition(":")
        words = (_MACROS.get(word, word).split() for word in contents.split())
        held = _parse([word for group in words for word in group])
        found.update(dict.fromkeys(names.split(), held))
    return found


def _parse(words: list[str]) -> Vocabulary:
    attributes: dict[str, frozenset[str] | None] = {}
    children: set[str] = set()
    values: frozenset[str] | None = None
    for word in words:
        if word.startswith("="):
            values = _values(word[1:])
        elif word.startswith("@"):
            name, equals, allowed = word[1:].partition("=")
            attributes[name] = _values(allowed) if equals else None
        elif word not in ("-", "*"):
            children.add(word)
    return Vocabulary(frozenset(children), attributes, values, "*" in words)


def _values(text: str) -> frozenset[str]:
    return frozenset(_LISTS.get(text, text).split("|"))
