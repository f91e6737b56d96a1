// What `vitrine --help` and `vitrine COMMAND --help` print.

const EXITS = `Exit codes
  0      done; with "run": the guest powered off, or halted for good with --exit-on-halt
  1      it failed: the reason is on standard error
  2      the command line cannot be understood
  3      no such machine, or several of that name; no such device
  4      the machine is not in a state for this: it does not run, or it runs; the device is in use
  5      with "run": the guest reset itself, or hit a triple fault
  6      with "run": the machine was cut off (Ctrl+A X)
  7      with "devices ADDRESS" and "plan": it cannot be given to a machine as things are; with "start": its devices are not there
  8      with "plan": nobody can be asked for permission here, or the privileged helper is not installed
  128+n  a signal ended the command
  With "run", a guest that writes V to isa-debug-exit (port 0xf4) ends it with (V * 2) + 1, whatever that means above.`;

const BACKENDS = `  --kvm  --lab        run on KVM, or in the lab (an emulated host), whatever the probe finds`;

const DEVICES = `KIND is vfio-pci,ADDRESS[,rom=FILE|off][,slot=N], a
                      device of this computer; virtio-rng, virtio-balloon, virtio-console[,ports=N], virtio-input,form=keyboard|tablet or
                      virtio-vsock,cid=N, with slot=N and rings=packed; or pci-test, a device for tests of guests. Options of that: slot=N (1 to
                      30, not 2; a free one unless told), functions=N (1 to 8), window=SIZE of its 64-bit BAR, dirty-log, shared-msix`;

const VIRTIO = `  --disk FILE[,format=raw|qcow2][,readonly][,cache=writeback|none|unsafe][,serial=TEXT][,queues=N][,on-error=report|pause]
                      a disk (virtio-blk): an image or a block device. Its format is found out unless told. cache=none goes past the page cache,
                      unsafe ignores flushes. on-error=pause stops the machine when the computer cannot read or write
  --cdrom FILE|none   a CD-ROM drive (virtio-scsi) with this image in it, or empty. Several share one controller
  --net user[,forward=tcp:[ADDRESS:]2222:22]…|tap=NAME[,queues=N]|none[,mac=ADDRESS][,link=up|down]
                      a network card (virtio-net): by passt without any rights, its ports forwarded from 127.0.0.1 or ADDRESS; on an interface
                      that was prepared for you; or without a cable
  --share TAG=FOLDER[,readonly]
                      a folder of this computer (9P). In the guest: mount -t 9p -o trans=virtio,version=9p2000.L TAG /mnt
                      Each of these four may be given several times, and takes slot=N (but --cdrom). A comma in a file's name is written
                      twice (but with --cdrom).`;

export const HELP: Record<string, string> = {
  '': `Usage: vitrine COMMAND …

  run         run a kernel in the foreground, its serial port on the terminal
  create      make a machine of the library
  start       start machines of the library
  stop        ask machines to shut down, and wait; --force cuts them off
  pause       pause machines
  resume      let them go on
  list        list the machines
  screenshot  save a machine's screen as a PNG
  balloon     take memory from a running guest, or give it back
  device      list, add and remove disks, networks, folders and other devices of a machine
  change      put another CD in, plug a network cable in or pull it, while the machine runs
  disk        make, resize and describe disk images
  serve       open the window's pages to a browser on this computer
  devices     which devices of this computer can be given to machines, and why not
  plan        what giving devices to a machine would change, and how it is undone
  bind        take devices from this computer and keep them for machines
  release     give them back
  helper      the small program that does so as root: whether it is installed, and how
  doctor      what this computer can do; --selftest tries it
  help        help on a command

Machines are named by id or by name.

${EXITS}`,
  run: `Usage: vitrine run --kernel FILE [options]

Runs a machine that lives as long as this command. Its kernel is a Linux bzImage, an ELF kernel (PVH), or a Multiboot 1 ELF.

  --kernel FILE
  --initrd FILE
  --append STRING     the kernel's command line
  --memory SIZE       512M (default), 2G, …: K, M, G or T, and M without a letter; whole MiB
  --cpus N            1 (default) to 32
  --serial stdio|none the first serial port on this terminal (default), or nowhere. Ctrl+A X ends the machine, Ctrl+A Ctrl+A is Ctrl+A
  --console stdio     the first virtio console (Linux's hvc0) on this terminal in place of the serial port; the device is added if there is none
  --display none|canvas
                      no screen (default), or one that any open window of Vitrine shows
${VIRTIO}
  --device KIND[,OPTION…]
                      another PCI device; may be given several times. ${DEVICES}
  --vfio-pci ADDRESS[,rom=FILE|off][,slot=N]
                      a device of this computer, bound to vfio-pci; may be given several times. Its expansion ROM is its own, a file's, or none
  --exit-on-halt      end when every CPU has halted with interrupts off
${BACKENDS}

${EXITS}`,
  start: `Usage: vitrine start NAME… [--revert SECONDS] [--kvm | --lab]

Starts machines and returns when they run. One that runs already is left alone.

--revert stops them again after that time, by force if need be, unless you press Enter: for a machine that has the only graphics card, whose
screen you might not see.`,
  stop: `Usage: vitrine stop NAME… [--force] [--timeout SECONDS]

Presses the power button and waits until the machine is off, at most 60 seconds or what --timeout says; --timeout 0 does not wait.
--force cuts the power: what the guest has not saved is lost.`,
  pause: `Usage: vitrine pause NAME…`,
  resume: `Usage: vitrine resume NAME…`,
  list: `Usage: vitrine list [--json]`,
  balloon: `Usage: vitrine balloon NAME [SIZE]

Asks the running guest to keep SIZE of its memory and give the rest to this computer, or, without SIZE, shows what it has. SIZE is given as with
"vitrine run"; 16M is the least, the size of the machine takes everything back. The machine needs a balloon (virtio-balloon) and its driver. Beside a
device of this computer that was given to the machine the balloon is off: such a device needs all of the guest's memory where it is.`,
  screenshot: `Usage: vitrine screenshot NAME FILE.png

Saves the machine's screen as it stands. "-" writes to standard output.`,
  create: `Usage: vitrine create NAME --kernel FILE [options]

Makes a machine of the library and prints its id. It has a screen (--display canvas) unless told. The options are those of "vitrine run", but for
--serial, --console, --exit-on-halt, --kvm and --lab.

${VIRTIO}`,
  device: `Usage: vitrine device list NAME [--json]
       vitrine device add NAME [--disk …] [--cdrom …] [--net …] [--share …] [KIND[,OPTION…]] [--keep]
       vitrine device remove NAME SLOT [--force] [--timeout SECONDS]

Lists the PCI devices of a machine; adds some, and prints their slots; takes one away. A machine that is off has it, or has it no more, from its
next start on. One that runs has a new device at once, until it ends, or with --keep after its next start, too; to give one back the guest is asked,
and it is waited for until it is gone, at most 30 seconds or what --timeout says. --force takes it out without asking: a guest that uses it may not
bear that.

${VIRTIO}
  ${DEVICES}`,
  change: `Usage: vitrine change NAME cd FILE [--slot N] [--drive N]
       vitrine change NAME cd --eject [--slot N] [--drive N]
       vitrine change NAME link up|down [--slot N]

Puts another medium into a CD-ROM drive, or takes it out; plugs the cable of a network card in, or pulls it. At once if the machine runs, and for its
next starts. --slot says which controller or card, when there are several; --drive which drive of the controller, from 0 (default) on.`,
  disk: `Usage: vitrine disk create FILE SIZE [--format qcow2|raw]
       vitrine disk create FILE [SIZE] --backing FILE
       vitrine disk resize FILE SIZE|+SIZE [--shrink] [--format qcow2|raw]
       vitrine disk info FILE [--format qcow2|raw] [--json]

Makes an image that takes no room until something is written to it: qcow2 unless told. With --backing it is an overlay: it shows the other image,
which must stay as it is from then on, and takes what is written. A file that is there already is never touched. resize changes the size of a disk
that no machine uses; a smaller one needs --shrink, for what lies behind its end is lost. SIZE is 20G, 512M, …: K, M, G or T, powers of 1024.`,
  serve: `Usage: vitrine serve [--port N] [--kvm | --lab]

Prints an address that opens Vitrine in a browser on this computer, and serves it until Ctrl+C. Machines run on.
From another computer: ssh -L 8080:127.0.0.1:PORT, then the same address with port 8080.`,
  devices: `Usage: vitrine devices [ADDRESS] [--machine NAME] [--all] [--json] [--lab]

Shows the PCI devices of this computer in their IOMMU groups: a group goes to a machine as a whole. Each has a verdict (ready, with care, not
possible) and its reason. With ADDRESS, such as 03:00.0: all about this device, what it is used for, and what to do.

  --machine NAME      judge for this machine: its memory, and the devices that it has already
  --all               also groups of bridges and parts of the board alone
  --json              everything, for programs
  --lab               the devices of the lab (an emulated host), for the machines that run there`,
  plan: `Usage: vitrine plan NAME [ADDRESS…] [--keep] [--json]

Shows what giving these devices (0000:03:00.0 or 03:00.0), with all of their IOMMU groups, to a machine would change on this computer beside the
devices that it has: each step, what it means, how it is undone, what to know before, and the commands that do the same. It changes nothing.
Without ADDRESS: what a start of the machine changes.

  --keep              the computer lets go at once, until \`vitrine release\`, and not only while the machine runs
  --json              everything, for programs`,
  bind: `Usage: vitrine bind ADDRESS…

Takes PCI devices (0000:03:00.0 or 03:00.0) from their drivers, gives them to vfio-pci, and gives their IOMMU groups to you, so that machines of
yours can have them. All of a group goes together. You are asked for permission. They stay so until \`vitrine release\`, or until the
computer restarts. Either all of it is done or nothing. What the computer itself needs, such as a disk with mounted file systems, is refused.`,
  release: `Usage: vitrine release [ADDRESS…]

Gives devices that were bound back to the drivers they had: these, or all of yours. You are asked for permission once. What a machine still uses
is not taken from it. Also gives back what a crash has left.`,
  helper: `Usage: vitrine helper [install | remove] [--json]

Says whether the privileged helper is installed, and the exact commands that install or remove it. Exits with 1 when it is not.
  install   puts it and its questions for permission in place; you are asked for an administrator's password
  remove    gives back everything that Vitrine has taken from this computer, then takes the helper away; refused while a machine uses something`,
  doctor: `Usage: vitrine doctor [--json] [--selftest [--report FILE]]

Says what this computer can do: KVM, permissions, IOMMU, firmware, networks, sandboxes. Exits with 1 when machines can run nowhere.
--selftest also runs the freestanding guests and boots Linux, and writes a report.`,
};
