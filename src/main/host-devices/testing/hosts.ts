// Hosts as people have them, written down for tests (tree.ts has the language). The names are from pci.ids.

export const PCI_IDS = `# A piece of the list
10de  NVIDIA Corporation
	2684  AD102 [GeForce RTX 4090]
	22ba  AD102 High Definition Audio Controller
	25a2  GA107M [GeForce RTX 3050 Mobile]
1002  Advanced Micro Devices, Inc. [AMD/ATI]
	7480  Navi 33 [Radeon RX 7600/7600 XT/7600M XT/7600S/7700S / PRO W7600]
	ab30  Navi 31 HDMI/DP Audio
	164e  Raphael
1022  Advanced Micro Devices, Inc. [AMD]
	14d8  Raphael/Granite Ridge Root Complex
	14db  Raphael/Granite Ridge GPP Bridge
	43f4  600 Series Chipset PCIe Switch Upstream Port
	43f5  600 Series Chipset PCIe Switch Downstream Port
	43f6  600 Series Chipset SATA Controller
	43f7  600 Series Chipset USB 3.2 Controller
	15b6  Raphael/Granite Ridge USB 3.1 xHCI
144d  Samsung Electronics Co Ltd
	a80c  NVMe SSD Controller S4LV008[Pascal]
	a80a  NVMe SSD Controller PM9A1/PM9A3/980PRO
		144d a801  SSD 980 PRO
8086  Intel Corporation
	4660  12th Gen Core Processor Host Bridge/DRAM Registers
	460d  12th Gen Core Processor PCI Express x16 Controller #1
	4680  AlderLake-S GT1 [UHD Graphics 770]
	46a6  Alder Lake-P GT2 [Iris Xe Graphics]
	7ae0  Alder Lake-S PCH USB 3.2 Gen 2x2 XHCI Controller
	7ae2  Alder Lake-S PCH SATA Controller [AHCI Mode]
	7a84  Z690 Chipset LPC/eSPI Controller
	7ad0  Alder Lake-S HD Audio Controller
	7aa3  Alder Lake-S PCH SMBus Controller
	1a1d  Ethernet Connection (17) I219-V
	10d3  82574L Gigabit Network Connection
	1572  Ethernet Controller X710 for 10GbE SFP+
	154c  Ethernet Virtual Function 700 Series
	2030  Sky Lake-E PCI Express Root Port A
	51f0  Alder Lake-P PCH CNVi WiFi
1a03  ASPEED Technology, Inc.
	2000  ASPEED Graphics Family
1912  Renesas Technology Corp.
	0014  uPD720201 USB 3.0 Host Controller
C 01  Mass storage controller
	06  SATA controller
		01  AHCI 1.0
	08  Non-Volatile memory controller
C 02  Network controller
	00  Ethernet controller
	80  Network controller
C 03  Display controller
	00  VGA compatible controller
	02  3D controller
C 04  Multimedia controller
	03  Audio device
C 06  Bridge
	00  Host bridge
	01  ISA bridge
	04  PCI bridge
C 0c  Serial bus controller
	03  USB controller
	05  SMBus
`;

/** Intel with VT-d on: a second card to give away, the screen on the CPU's own graphics. */
const intelDesktop = `
  acpi DMAR APIC FACP
  iommu dmar0 dmar1
  remapping yes
  cmdline quiet intel_iommu=on
  desktop
  pci 00:00.0 8086:4660 060000 group=0
  pci 00:01.0 8086:460d 060400 group=1 driver=pcieport
    pci 01:00.0 10de:2684 030000 group=11 driver=nvidia reset=none rom=512K bar=0:16M:32,1:32G:64p,3:32M:64p,5:128:io label="Slot 1"
      drm card1 DP-1:off HDMI-A-1:off
    pci 01:00.1 10de:22ba 040300 group=11 driver=snd_hda_intel reset=none bar=0:16K:32
      sound card1
  pci 00:02.0 8086:4680 030000 group=2 driver=i915 boot_vga rom=shadow bar=0:16M:64,2:256M:64p
    drm card0 HDMI-A-2:on
  pci 00:14.0 8086:7ae0 0c0330 group=3 driver=xhci_hcd bar=0:64K:64
    usb 1-1 keyboard "Logitech Keyboard"
    usb 1-2 mouse "Logitech Mouse"
    usb 1-3 hub "Hub"
    usb 1-4 device "Webcam C920"
  pci 00:17.0 8086:7ae2 010601 group=4 driver=ahci bar=0:8K:32
    block sda sda1
  pci 00:1a.0 8086:460d 060400 group=12 driver=pcieport
    pci 02:00.0 144d:a80c 010802 group=13 driver=nvme bar=0:16K:64 msix=0:8192:33
      block nvme0n1 nvme0n1p1 nvme0n1p2 nvme0n1p3
  pci 00:1c.0 8086:460d 060400 group=14 driver=pcieport
    pci 03:00.0 8086:10d3 020000 group=15 driver=e1000e bar=0:128K:32,1:512K:32,2:32:io,3:16K:32 msix=3:0:5 label="Slot 3"
      net enp3s0 down
  pci 00:1f.0 8086:7a84 060100 group=5
  pci 00:1f.3 8086:7ad0 040300 group=5 driver=snd_hda_intel reset=none bar=0:16K:64
    sound card0
  pci 00:1f.4 8086:7aa3 0c0500 group=5 driver=i801_smbus bar=0:256:64
  pci 00:1f.6 8086:1a1d 020000 group=5 driver=e1000e bar=0:128K:32 label="Onboard LAN"
    net eno1 up 192.168.1.5
  mount nvme0n1p1 /boot/efi vfat
  mount nvme0n1p2 /
  mount nvme0n1p3 /home
  mount sda1 /srv/films
  route eno1 default
  route eno1 lan
`;

/** AMD, the IOMMU on by default; LUKS and LVM on the NVMe drive; the bridged link of the machines. */
const amdDesktop = `
  cpu amd svm
  acpi IVRS FACP
  iommu ivhd0
  remapping yes
  desktop
  pci 00:00.0 1022:14d8 060000 group=0
  pci 00:01.0 1022:14db 060400 group=1 driver=pcieport
    pci 01:00.0 1002:7480 030000 group=14 driver=amdgpu boot_vga reset=none rom=128K bar=0:256M:64p,2:2M:64p,5:1M:32
      drm card0 DP-1:on DP-2:on
    pci 01:00.1 1002:ab30 040300 group=14 driver=snd_hda_intel reset=none bar=0:16K:32
      sound card0 playing
  pci 00:02.0 1022:14db 060400 group=2 driver=pcieport
    pci 02:00.0 144d:a80a 010802 group=15 driver=nvme bar=0:16K:64
      block nvme0n1 nvme0n1p1 nvme0n1p2
  pci 00:03.0 1022:14db 060400 group=3 driver=pcieport
    pci 03:00.0 8086:10d3 020000 group=16 driver=e1000e bar=0:128K:32
      net enp3s0 up
  pci 00:04.0 1022:14db 060400 group=4 driver=pcieport
    pci 04:00.0 1002:164e 030000 group=17 driver=amdgpu reset=none bar=0:256M:64p
      drm card1 HDMI-A-1:off
    pci 04:00.3 1022:15b6 0c0330 group=18 driver=xhci_hcd bar=0:1M:64
      usb 3-1 disk sdb sdb1
  volume dm-0 luks-home on nvme0n1p2
  volume dm-1 vg-root on dm-0
  volume dm-2 vg-swap on dm-0
  mount nvme0n1p1 /boot
  mount dm-1 /
  mount sdb1 /run/media/ada/STICK vfat
  swap dm-2
  upper br0 over enp3s0
  route br0 default
  program 901 Xorg /dev/dri/card0
  program 902 gnome-shell /dev/dri/card0 /dev/null
`;

/** One graphics card, a desktop on it, the boot framebuffer still there. */
const oneGpu = `
  cpu amd svm
  acpi IVRS
  iommu ivhd0
  remapping yes
  desktop
  iomem 01:00.0 BOOTFB
  pci 00:01.0 1022:14db 060400 group=1 driver=pcieport
    pci 01:00.0 1002:7480 030000 group=2 driver=amdgpu boot_vga reset=none rom=shadow bar=0:8G:64p
      drm card0 DP-1:on
    pci 01:00.1 1002:ab30 040300 group=2 driver=snd_hda_intel reset=none
  pci 00:02.0 144d:a80a 010802 group=3 driver=nvme
    block nvme0n1 nvme0n1p1
  mount nvme0n1p1 /
`;

/** A laptop: the panel on the CPU's graphics, a second chip asleep, wireless alone. */
const laptop = `
  acpi DMAR
  iommu dmar0 dmar1
  remapping yes
  config INTEL_IOMMU=y INTEL_IOMMU_DEFAULT_ON=y VFIO_PCI=m
  desktop
  pci 00:02.0 8086:46a6 030000 group=0 driver=i915 boot_vga bar=0:16M:64
    drm card0 eDP-1:on
  pci 00:06.0 8086:460d 060400 group=1 driver=pcieport
    pci 01:00.0 10de:25a2 030200 group=8 driver=nvidia sleeps bar=0:16M:32,1:4G:64p msix=0:8192:4
      drm card1
  pci 00:14.0 8086:7ae0 0c0330 group=2 driver=xhci_hcd
    usb 1-7 device "Integrated Camera"
  pci 00:14.3 8086:51f0 028000 group=3 driver=iwlwifi
    net wlp0s20f3 up 192.168.1.23
  pci 00:1d.0 8086:460d 060400 group=4 driver=pcieport
    pci 02:00.0 144d:a80a 010802 group=9 driver=nvme
      block nvme0n1 nvme0n1p1 nvme0n1p2
  btrfs nvme0n1p2
  mount nvme0n1p1 /boot/efi vfat
  mount nvme0n1p2 / btrfs /dev/nvme0n1p2
  mount nvme0n1p2 /home btrfs /dev/nvme0n1p2
  route wlp0s20f3 default
`;

/** A server: two ports with virtual functions, RAID over two controllers, the management chip's graphics. */
const server = `
  acpi DMAR
  iommu dmar0 dmar1 dmar2 dmar3
  remapping yes
  cmdline console=ttyS0 intel_iommu=on iommu=pt
  memory 256G 200G
  pci 00:1c.0 8086:460d 060400 group=1 driver=pcieport
    pci 02:00.0 1a03:2000 030000 group=20 driver=ast boot_vga bar=0:16M:32
      drm card0 VGA-1:off
  pci 17:00.0 8086:2030 060400 group=30 driver=pcieport acs
    pci 18:00.0 8086:1572 020000 group=31 driver=i40e sriov=64/4 numa=0 bar=0:8M:64p,3:32K:64p
      net ens1f0 up 10.0.0.5
    pci 18:00.1 8086:1572 020000 group=32 driver=i40e sriov=64/0 numa=0 bar=0:8M:64p
      net ens1f1 down
    pci 18:02.0 8086:154c 020000 group=33 driver=iavf physfn=18:00.0 bar=0:64K:64p
      net ens1f0v0 down
    pci 18:02.1 8086:154c 020000 group=34 driver=vfio-pci physfn=18:00.0 bar=0:64K:64p
    pci 18:02.2 8086:154c 020000 group=35 physfn=18:00.0 bar=0:64K:64p
    pci 18:02.3 8086:154c 020000 group=36 driver=vfio-pci physfn=18:00.0 bar=0:64K:64p
  pci 3a:00.0 8086:2030 060400 group=40 driver=pcieport acs
    pci 3b:00.0 144d:a80a 010802 group=41 driver=nvme numa=1
      block nvme0n1 nvme0n1p1
  pci 3a:01.0 8086:2030 060400 group=42 driver=pcieport acs
    pci 3c:00.0 144d:a80a 010802 group=43 driver=nvme numa=1
      block nvme1n1 nvme1n1p1
  pci 3a:02.0 8086:2030 060400 group=44 driver=pcieport acs
    pci 3d:00.0 144d:a80a 010802 group=45 driver=nvme numa=1
      block nvme2n1
  volume md0 root on nvme0n1p1 nvme1n1p1
  mount md0 /
  route ens1f0 default
  region 45 0x00000000bdf6e000 0x00000000bdf84fff direct
  forbidden /dev/vfio/34
  program 777 qemu-system-x86 /dev/vfio/vfio /dev/vfio/36
`;

/** A chipset without isolation, split by the kernel parameter. */
const acsSplit = `
  cpu amd svm
  acpi IVRS
  iommu ivhd0
  remapping yes
  cmdline quiet pcie_acs_override=downstream,multifunction
  pci 00:01.0 1022:14db 060400 group=1 driver=pcieport noacs
    pci 01:00.0 1022:43f4 060400 group=10 driver=pcieport noacs
      pci 02:00.0 1022:43f5 060400 group=11 driver=pcieport noacs
        pci 03:00.0 8086:10d3 020000 group=12 driver=e1000e
          net enp3s0 down
      pci 02:01.0 1022:43f5 060400 group=13 driver=pcieport noacs
        pci 04:00.0 1022:43f7 0c0330 group=14 driver=xhci_hcd
      pci 02:02.0 1022:43f5 060400 group=15 driver=pcieport noacs
        pci 05:00.0 1002:7480 030000 group=16 rom=64K
        pci 05:00.1 1002:ab30 040300 group=17
  pci 00:08.0 144d:a80a 010802 group=20 driver=nvme
    block nvme0n1 nvme0n1p1
  mount nvme0n1p1 /
`;

/** VT-d off in the firmware. */
const noIommu = `
  acpi APIC FACP
  config INTEL_IOMMU=y VFIO_PCI=m
  file /etc/os-release ID=ubuntu
  file /etc/default/grub GRUB_CMDLINE_LINUX_DEFAULT="quiet"
  pci 00:01.0 8086:460d 060400 driver=pcieport
    pci 01:00.0 10de:2684 030000 driver=nouveau boot_vga rom=512K
      drm card0 DP-1:on
    pci 01:00.1 10de:22ba 040300 driver=snd_hda_intel
  pci 00:1f.6 8086:1a1d 020000 driver=e1000e
    net eno1 up 192.168.1.5
  pci 00:17.0 8086:7ae2 010601 driver=ahci
    block sda sda1
  mount sda1 /
  route eno1 default
`;

/** A board where the second slot hangs on the chipset, with the system's disk. */
const bootDiskInGroup = `
  acpi DMAR
  iommu dmar0
  remapping yes
  cmdline intel_iommu=on
  pci 00:02.0 8086:4680 030000 group=0 driver=i915 boot_vga
    drm card0 DP-1:on
  pci 00:1c.0 8086:460d 060400 group=7 driver=pcieport
    pci 01:00.0 10de:2684 030000 group=7 driver=nouveau rom=512K
      drm card1 DP-2:off
    pci 01:00.1 10de:22ba 040300 group=7 driver=snd_hda_intel
  pci 00:1c.4 8086:460d 060400 group=7 driver=pcieport
    pci 02:00.0 144d:a80a 010802 group=7 driver=nvme
      block nvme0n1 nvme0n1p1
  mount nvme0n1p1 /
`;

/** A card behind a switch, with its bridges in its group; a group of bridges alone; unrelated cards in one group. */
const bridges = `
  acpi DMAR
  iommu dmar0
  remapping yes
  cmdline intel_iommu=on
  pci 00:01.0 8086:460d 060400 group=1 driver=pcieport
    pci 01:00.0 8086:10d3 020000 group=1 driver=e1000e
      net enp1s0 down
  pci 00:1c.0 8086:460d 060400 group=2 driver=pcieport
  pci 00:1c.1 8086:460d 060400 group=3 driver=pcieport
    pci 03:00.0 1912:0014 0c0330 group=3 driver=xhci_hcd
    pci 03:01.0 8086:10d3 020000 group=3 reset=none
`;

/** Locked down by Secure Boot; a graphics card with its sound and USB functions, reserved from start-up. */
const lockdown = `
  cpu amd svm
  acpi IVRS
  iommu ivhd0
  remapping yes
  lockdown integrity
  desktop
  pci 00:01.0 1022:14db 060400 group=1 driver=pcieport
    pci 01:00.0 10de:2684 030000 group=9 driver=vfio-pci override=vfio-pci reset=none rom=512K
    pci 01:00.1 10de:22ba 040300 group=9 driver=vfio-pci reset=none
    pci 01:00.2 10de:1ad8 0c0330 group=9 driver=vfio-pci reset=none
  pci 00:02.0 1002:164e 030000 group=2 driver=amdgpu boot_vga
    drm card0 DP-1:on
`;

/** Little memory, a low limit, and a node that belongs to root. */
const limits = `
  acpi DMAR
  iommu dmar0
  remapping yes
  cmdline intel_iommu=on
  memory 8G 5G
  memlock 8M
  forbidden /dev/vfio/4
  pci 00:03.0 8086:10d3 020000 group=4 driver=vfio-pci
  pci 00:04.0 8086:10d3 020000 group=5
`;

/** Interrupts not remapped, twice: as it is, and allowed. */
const noRemapping = `
  acpi DMAR
  iommu dmar0
  remapping no
  cmdline intel_iommu=on intremap=off
  pci 00:03.0 8086:10d3 020000 group=4
`;

export const HOSTS = { intelDesktop, amdDesktop, oneGpu, laptop, server, acsSplit, noIommu, bootDiskInGroup, bridges, lockdown, limits, noRemapping };
