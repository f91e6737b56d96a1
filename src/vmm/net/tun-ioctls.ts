// Numbers of TUN/TAP. Source: linux/if_tun.h (uapi), linux/if.h; Documentation/networking/tuntap.rst. Tested against the headers.

export const TUNSETIFF = 0x400454ca;
export const TUNGETFEATURES = 0x800454cf;
export const TUNSETOFFLOAD = 0x400454d0;
export const TUNSETVNETHDRSZ = 0x400454d8;
export const TUNSETQUEUE = 0x400454d9;

export const IFF_TAP = 0x0002;
export const IFF_MULTI_QUEUE = 0x0100;
export const IFF_ATTACH_QUEUE = 0x0200;
export const IFF_DETACH_QUEUE = 0x0400;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;

export const TUN_F_CSUM = 0x01;
export const TUN_F_TSO4 = 0x02;
export const TUN_F_TSO6 = 0x04;
export const TUN_F_TSO_ECN = 0x08;
/** Since Linux 6.2. */
export const TUN_F_USO4 = 0x20;
export const TUN_F_USO6 = 0x40;

export const IFNAMSIZ = 16;
/** sizeof(struct ifreq) */
export const IFREQ_BYTES = 40;

/** Of the interface itself (SIOCGIFFLAGS, sysfs `flags`). */
export const IFF_UP = 0x1;
