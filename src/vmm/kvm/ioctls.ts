// KVM's ioctl numbers and constants. Source: linux/kvm.h and asm/kvm.h (uapi); Documentation/virt/kvm/api.rst. Tested against the headers.

const NONE = 0;
const WRITE = 1;
const READ = 2;
const KVMIO = 0xae;
const io = (direction: number, number: number, size = 0): number => ((direction << 30) | (size << 16) | (KVMIO << 8) | number) >>> 0;

export const KVM_API_VERSION = 12;

// of /dev/kvm
export const KVM_GET_API_VERSION = io(NONE, 0x00);
export const KVM_CREATE_VM = io(NONE, 0x01);
export const KVM_CHECK_EXTENSION = io(NONE, 0x03);
export const KVM_GET_VCPU_MMAP_SIZE = io(NONE, 0x04);
export const KVM_GET_SUPPORTED_CPUID = io(READ | WRITE, 0x05, 8);

// of a virtual machine
export const KVM_CREATE_VCPU = io(NONE, 0x41);
export const KVM_GET_DIRTY_LOG = io(WRITE, 0x42, 16);
export const KVM_SET_USER_MEMORY_REGION = io(WRITE, 0x46, 32);
export const KVM_SET_TSS_ADDR = io(NONE, 0x47);
export const KVM_SET_IDENTITY_MAP_ADDR = io(WRITE, 0x48, 8);
export const KVM_CREATE_IRQCHIP = io(NONE, 0x60);
export const KVM_IRQ_LINE = io(WRITE, 0x61, 8);
export const KVM_GET_IRQCHIP = io(READ | WRITE, 0x62, 520);
export const KVM_SET_IRQCHIP = io(READ, 0x63, 520);
export const KVM_SET_GSI_ROUTING = io(WRITE, 0x6a, 8);
export const KVM_IRQFD = io(WRITE, 0x76, 32);
export const KVM_CREATE_PIT2 = io(WRITE, 0x77, 64);
export const KVM_IOEVENTFD = io(WRITE, 0x79, 64);
export const KVM_SET_CLOCK = io(WRITE, 0x7b, 48);
export const KVM_GET_CLOCK = io(READ, 0x7c, 48);
export const KVM_GET_PIT2 = io(READ, 0x9f, 112);
export const KVM_SET_PIT2 = io(WRITE, 0xa0, 112);
export const KVM_SIGNAL_MSI = io(WRITE, 0xa5, 32);
export const KVM_CREATE_DEVICE = io(READ | WRITE, 0xe0, 12);
export const KVM_SET_DEVICE_ATTR = io(WRITE, 0xe1, 24);
export const KVM_GET_DEVICE_ATTR = io(WRITE, 0xe2, 24);
export const KVM_HAS_DEVICE_ATTR = io(WRITE, 0xe3, 24);

// of a vCPU
export const KVM_RUN = io(NONE, 0x80);
export const KVM_GET_REGS = io(READ, 0x81, 144);
export const KVM_SET_REGS = io(WRITE, 0x82, 144);
export const KVM_GET_SREGS = io(READ, 0x83, 312);
export const KVM_SET_SREGS = io(WRITE, 0x84, 312);
export const KVM_GET_MSRS = io(READ | WRITE, 0x88, 8);
export const KVM_SET_MSRS = io(WRITE, 0x89, 8);
export const KVM_GET_FPU = io(READ, 0x8c, 416);
export const KVM_SET_FPU = io(WRITE, 0x8d, 416);
export const KVM_GET_LAPIC = io(READ, 0x8e, 1024);
export const KVM_SET_LAPIC = io(WRITE, 0x8f, 1024);
export const KVM_SET_CPUID2 = io(WRITE, 0x90, 8);
export const KVM_GET_MP_STATE = io(READ, 0x98, 4);
export const KVM_SET_MP_STATE = io(WRITE, 0x99, 4);
export const KVM_NMI = io(NONE, 0x9a);
export const KVM_GET_VCPU_EVENTS = io(READ, 0x9f, 64);
export const KVM_SET_VCPU_EVENTS = io(WRITE, 0xa0, 64);
export const KVM_GET_TSC_KHZ = io(NONE, 0xa3);
export const KVM_GET_DEBUGREGS = io(READ, 0xa1, 128);
export const KVM_SET_DEBUGREGS = io(WRITE, 0xa2, 128);
export const KVM_GET_XCRS = io(READ, 0xa6, 392);
export const KVM_SET_XCRS = io(WRITE, 0xa7, 392);
export const KVM_KVMCLOCK_CTRL = io(NONE, 0xad);

// capabilities
export const KVM_CAP_IRQCHIP = 0;
export const KVM_CAP_USER_MEMORY = 3;
export const KVM_CAP_SET_TSS_ADDR = 4;
export const KVM_CAP_EXT_CPUID = 7;
export const KVM_CAP_NR_VCPUS = 9;
export const KVM_CAP_NR_MEMSLOTS = 10;
export const KVM_CAP_MP_STATE = 14;
export const KVM_CAP_IRQ_ROUTING = 25;
export const KVM_CAP_IRQFD = 32;
export const KVM_CAP_PIT2 = 33;
export const KVM_CAP_IOEVENTFD = 36;
export const KVM_CAP_SET_IDENTITY_MAP_ADDR = 37;
export const KVM_CAP_ADJUST_CLOCK = 39;
export const KVM_CAP_VCPU_EVENTS = 41;
export const KVM_CAP_MAX_VCPUS = 66;
export const KVM_CAP_TSC_DEADLINE_TIMER = 72;
export const KVM_CAP_SIGNAL_MSI = 77;
export const KVM_CAP_READONLY_MEM = 81;
export const KVM_CAP_IRQFD_RESAMPLE = 82;
export const KVM_CAP_IMMEDIATE_EXIT = 136;

// kvm_userspace_memory_region
export const KVM_MEM_LOG_DIRTY_PAGES = 1;
export const KVM_MEM_READONLY = 2;

// exit reasons (kvm_run.exit_reason)
export const KVM_EXIT_UNKNOWN = 0;
export const KVM_EXIT_EXCEPTION = 1;
export const KVM_EXIT_IO = 2;
export const KVM_EXIT_HYPERCALL = 3;
export const KVM_EXIT_DEBUG = 4;
export const KVM_EXIT_HLT = 5;
export const KVM_EXIT_MMIO = 6;
export const KVM_EXIT_IRQ_WINDOW_OPEN = 7;
export const KVM_EXIT_SHUTDOWN = 8;
export const KVM_EXIT_FAIL_ENTRY = 9;
export const KVM_EXIT_INTR = 10;
export const KVM_EXIT_INTERNAL_ERROR = 17;
export const KVM_EXIT_SYSTEM_EVENT = 24;

export const KVM_SYSTEM_EVENT_SHUTDOWN = 1;
export const KVM_SYSTEM_EVENT_RESET = 2;
export const KVM_SYSTEM_EVENT_CRASH = 3;

// kvm_run: byte offsets
export const RUN_IMMEDIATE_EXIT = 1;
export const RUN_EXIT_REASON = 8;
export const RUN_UNION = 32;

// kvm_irqfd.flags
export const KVM_IRQFD_FLAG_DEASSIGN = 1;
export const KVM_IRQFD_FLAG_RESAMPLE = 2;

// kvm_irq_routing_entry.type
export const KVM_IRQ_ROUTING_IRQCHIP = 1;
export const KVM_IRQ_ROUTING_MSI = 2;
export const KVM_IRQCHIP_PIC_MASTER = 0;
export const KVM_IRQCHIP_PIC_SLAVE = 1;
export const KVM_IRQCHIP_IOAPIC = 2;

// kvm_mp_state
export const KVM_MP_STATE_RUNNABLE = 0;
export const KVM_MP_STATE_UNINITIALIZED = 1;
export const KVM_MP_STATE_HALTED = 3;

// kvm_pit_config.flags
export const KVM_PIT_SPEAKER_DUMMY = 1;

// a vCPU's attributes
export const KVM_VCPU_TSC_CTRL = 0;
export const KVM_VCPU_TSC_OFFSET = 0;

// KVM's VFIO device (Documentation/virt/kvm/devices/vfio.rst)
export const KVM_DEV_TYPE_VFIO = 4;
export const KVM_DEV_VFIO_GROUP = 1;
export const KVM_DEV_VFIO_GROUP_ADD = 1;
export const KVM_DEV_VFIO_GROUP_DEL = 2;
