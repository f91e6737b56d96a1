// The two shell scripts inside the lab's initramfs, run by busybox.
//
// `init` makes the root: the host's / by read-only 9p under a tmpfs overlay, with the shares of the configuration mounted writable
// at their own paths. `stage2` is the lab's process 1 after it: it starts the agent (lab/agent.ts), collects orphans, and powers
// off when the agent ends. What differs between runs comes through the 9p share `config`, a private folder on the host:
//
//   env       NAME='value' lines for the shell (lab/qemu.ts writes them)
//   shares    one share a line: tag TAB ro|rw TAB 9p cache mode TAB path
//   agent.json  what the agent reads (token, port, …)
//
// Network: QEMU's user-mode network, whose addresses are fixed (10.0.2.15 is the lab, .2 the host, .3 its name server).

export const INIT_SCRIPT = `#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /host /ov /newroot /config
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
fail() { echo "VITRINE-LAB FAILED $*"; poweroff -f; }

load() { for m in $(cat /modules/$1); do insmod /modules/$m || fail "loading the module $m"; done; }
load kvm.order & KVM=$!
load root.order

P=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o $P,cache=loose,ro config /config || fail "mounting the configuration"

. /config/env
mount -t 9p -o $P,cache=loose,ro host /host || fail "mounting the host's root"
# Node is the next big thing that is read: page it in meanwhile
cat "/host$LAB_NODE" >/dev/null 2>&1 &
mount -t tmpfs -o size=50% tmpfs /ov
mkdir /ov/up /ov/work
mount -t overlay -o volatile,lowerdir=/host,upperdir=/ov/up,workdir=/ov/work overlay /newroot || fail "mounting the overlay"
cd /newroot

mkdir -p tmp run dev proc sys root "lib/modules/$(uname -r)"
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p run/lab run/lock run/user
cp /bin/busybox /stage2 run/lab/
cp /config/* run/lab/
chmod 600 run/lab/agent.json
mkdir run/lab/cache
mount -t 9p -o $P,cache=loose,ro cache run/lab/cache || fail "mounting the cache"
mount --bind "run/lab/cache/kernels/$(uname -r)/lib/modules/$(uname -r)" "lib/modules/$(uname -r)"
umount /config

mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
ln -sf /proc/self/fd /dev/fd; ln -sf fd/0 /dev/stdin; ln -sf fd/1 /dev/stdout; ln -sf fd/2 /dev/stderr

mount -t cgroup2 cgroup2 /sys/fs/cgroup

hostname lab
rm -f etc/resolv.conf
echo nameserver 10.0.2.3 > etc/resolv.conf
grep -q '^kvm:' etc/group || echo 'kvm:x:980:' >> etc/group
grep -q "^[^:]*:[^:]*:$LAB_UID:" etc/passwd || echo "$LAB_USER:x:$LAB_UID:$LAB_GID:lab:$LAB_HOME:/bin/sh" >> etc/passwd
grep -q "^[^:]*:[^:]*:$LAB_GID:" etc/group || echo "$LAB_USER:x:$LAB_GID:" >> etc/group
[ -d ".$LAB_HOME" ] || { mkdir -p ".$LAB_HOME"; chown "$LAB_UID:$LAB_GID" ".$LAB_HOME"; }
mkdir -m 700 "run/user/$LAB_UID" run/lab/sockets
chown "$LAB_UID:$LAB_GID" "run/user/$LAB_UID" run/lab/sockets
wait $KVM
chgrp "$(sed -n 's/^kvm:[^:]*:\\([0-9]*\\).*/\\1/p' etc/group | head -n1)" /dev/kvm && chmod 660 /dev/kvm

ip link set lo up
for i in /sys/class/net/*; do
  [ "$(cat $i/address)" = "$LAB_MAC" ] || continue
  ip link set \${i##*/} up
  ip addr add 10.0.2.15/24 dev \${i##*/}
  ip route add default via 10.0.2.2
done
echo 1 > /proc/sys/vm/overcommit_memory
echo 1 > /proc/sys/kernel/sysrq
ulimit -n 65536

while IFS="$(printf '\\t')" read -r tag mode cache path; do
  mkdir -p ".$path"
  mount -t 9p -o "$P,cache=$cache,$mode" "$tag" ".$path" || fail "mounting the share $path"
done < run/lab/shares

mount --move /dev dev; mount --move /proc proc; mount --move /sys sys
exec switch_root /newroot /run/lab/busybox sh /run/lab/stage2
`

export const STAGE2_SCRIPT = `
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
cd /
. /run/lab/env
# by full path: busybox would take its own modprobe, which knows no blacklists and less of aliases
M=/sbin/modprobe
for m in $LAB_MODPROBE; do $M $m; done
[ -z "$LAB_COLDPLUG" ] || $M -aqb $(cat /sys/bus/pci/devices/0000:00:0[5-9a].0/modalias)
"$LAB_NODE" "$LAB_AGENT" /run/lab/agent.json &
wait $!
/run/lab/busybox sync
/run/lab/busybox umount -a -r -t 9p 2>/dev/null
/run/lab/busybox poweroff -f
`
