// 9P2000.L: the file protocol that Linux's v9fs speaks (mount -t 9p -o trans=virtio,version=9p2000.L). Messages are size[4] type[1] tag[2] and their
// fields, little-endian; a reply has the request's type plus one, or is Rlerror with a Linux error number.
// Source: github.com/chaos/diod protocol.md; linux/include/net/9p/9p.h; intro(5) of Plan 9 for what both have in common.

export const VERSION = '9P2000.L';
/** Of a Rversion that refuses what was asked for. */
export const VERSION_UNKNOWN = 'unknown';

// Requests; the reply's type is one more.
export const RLERROR = 7;
export const TSTATFS = 8;
export const TLOPEN = 12;
export const TLCREATE = 14;
export const TSYMLINK = 16;
export const TMKNOD = 18;
export const TRENAME = 20;
export const TREADLINK = 22;
export const TGETATTR = 24;
export const TSETATTR = 26;
export const TXATTRWALK = 30;
export const TXATTRCREATE = 32;
export const TREADDIR = 40;
export const TFSYNC = 50;
export const TLOCK = 52;
export const TGETLOCK = 54;
export const TLINK = 70;
export const TMKDIR = 72;
export const TRENAMEAT = 74;
export const TUNLINKAT = 76;
export const TVERSION = 100;
export const TAUTH = 102;
export const TATTACH = 104;
export const TFLUSH = 108;
export const TWALK = 110;
export const TREAD = 116;
export const TWRITE = 118;
export const TCLUNK = 120;
export const TREMOVE = 122;

/** size[4] type[1] tag[2]. */
export const HEADER_BYTES = 7;
/** Rread and Rreaddir: the header and count[4]. */
export const READ_HEADER_BYTES = 11;
/** Twrite: the header, fid[4], offset[8], count[4]; the data follows. */
export const WRITE_HEADER_BYTES = 23;
/** Rlerror: the header and ecode[4]. */
export const ERROR_BYTES = 11;

export const NO_FID = 0xffff_ffff;
/** Names in one Twalk. */
export const MAX_WALK = 16;
/** Bytes of a file's name, as Linux has it. */
export const NAME_MAX = 255;
/** Bytes of a path or a link's target with its final NUL, as Linux has it. */
export const PATH_MAX = 4096;
/** The smallest message size that can be worked with. */
export const MIN_MSIZE = 4096;
/** The largest message size: more than Linux's v9fs asks for (125 pages of a queue of 128). */
export const MAX_MSIZE = 2 ** 20;

// qid.type
export const QID_DIRECTORY = 0x80;
export const QID_SYMLINK = 0x02;
export const QID_FILE = 0;

// Rgetattr's valid mask
export const GETATTR_BASIC = 0x7ff;
export const GETATTR_BTIME = 0x800;

// Tsetattr's valid mask
export const SETATTR_MODE = 0x001;
export const SETATTR_UID = 0x002;
export const SETATTR_GID = 0x004;
export const SETATTR_SIZE = 0x008;
export const SETATTR_ATIME = 0x010;
export const SETATTR_MTIME = 0x020;
export const SETATTR_CTIME = 0x040;
export const SETATTR_ATIME_SET = 0x080;
export const SETATTR_MTIME_SET = 0x100;

/** Tunlinkat's only flag. */
export const UNLINKAT_REMOVEDIR = 0x200;

// Tlock and Tgetlock
export const LOCK_TYPE_READ = 0;
export const LOCK_TYPE_WRITE = 1;
export const LOCK_TYPE_UNLOCK = 2;
export const LOCK_SUCCESS = 0;

// Tlopen's and Tlcreate's flags: Linux's own numbers on x86, whatever the guest's processor is.
export const OPEN_ACCESS = 0o3;
export const OPEN_WRONLY = 0o1;
export const OPEN_RDWR = 0o2;
export const OPEN_CREATE = 0o100;
export const OPEN_EXCL = 0o200;
export const OPEN_TRUNC = 0o1000;
export const OPEN_APPEND = 0o2000;
export const OPEN_DSYNC = 0o10000;
export const OPEN_DIRECTORY = 0o200000;
export const OPEN_SYNC = 0o4000000;

/** Rstatfs: the type that Linux gives to 9p, so that programs see a network's file system and not the host's. */
export const V9FS_MAGIC = 0x0102_1997;
