// Names from pci.ids, the list of the PCI ID Project that pciutils and hwdata bring: vendors at the beginning of a line, their devices
// behind one tab, subsystems behind two; then classes behind "C ". Read once per file, and again when it has changed.
import { readFileSync, statSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { DeviceKind } from '../../shared/host-devices.ts';

export interface Names {
  vendor: (vendor: string) => string | undefined;
  device: (vendor: string, device: string) => string | undefined;
  /** By class, subclass and programming interface, the most exact that there is. */
  className: (classCode: string) => string | undefined;
}

/** "10de" and "10de 2684", "C 03" and "C 0300". Subsystems' names say little that people know their card by. */
function parse(content: string): Map<string, string> {
  const names = new Map<string, string>();
  let above = '';
  for (let at = 0; at < content.length; ) {
    const newline = content.indexOf('\n', at);
    const end = newline === -1 ? content.length : newline;
    const deep = content[at] === '\t';
    if (!(deep && content[at + 1] === '\t') && content[at] !== '#' && end > at) {
      const line = content.slice(deep ? at + 1 : at, end);
      const match = /^(C [0-9a-f]{2}|[0-9a-f]{2,4}) {2}(.*\S)\s*$/i.exec(line);
      if (match !== null) {
        if (deep) names.set(above.startsWith('C ') ? above + match[1] : `${above} ${match[1]}`, match[2]);
        else names.set((above = match[1]), match[2]);
      }
    }
    at = end + 1;
  }
  return names;
}

const EMPTY = new Map<string, string>();
let cached: { key: string; names: Map<string, string> } | undefined;

function load(paths: readonly string[]): Map<string, string> {
  for (const path of paths) {
    try {
      const stat = statSync(path);
      const key = `${path} ${stat.mtimeMs} ${stat.size}`;
      if (cached?.key !== key) {
        const content = readFileSync(path);
        cached = { key, names: parse((path.endsWith('.gz') ? gunzipSync(content) : content).toString('utf8')) };
      }
      if (cached.names.size > 0) return cached.names;
    } catch {
      // Another may be there.
    }
  }
  return EMPTY;
}

/** @param paths where the list may lie, the best first */
export function pciNames(paths: readonly string[]): Names {
  const names = load(paths);
  return {
    vendor: (vendor) => names.get(vendor),
    device: (vendor, device) => names.get(`${vendor} ${device}`),
    className: (classCode) => names.get(`C ${classCode.slice(0, 4)}`) ?? names.get(`C ${classCode.slice(0, 2)}`),
  };
}

/** Kinds whose box has another name than the chip. */
const BOXED: ReadonlySet<DeviceKind> = new Set(['graphics', 'network', 'wireless', 'accelerator']);

/**
 * As people know it: "Navi 33 [Radeon RX 7600/7600 XT / PRO W7600]" is a Radeon RX 7600.
 * The name on the box stands in brackets behind the chip's; of several that share one chip, the first. Other brackets hold modes and chips.
 */
export function knownAs(model: string, kind: DeviceKind): string {
  const match = /^(.*\S)\s*\[([^[\]]+)\]\s*$/.exec(model);
  if (match === null) return model;
  return BOXED.has(kind) && /[A-Za-z]{2,}.*\d|[A-Za-z]{4,}/.test(match[2]) ? match[2].split('/')[0].trim() : match[1];
}

/** "Advanced Micro Devices, Inc. [AMD/ATI]" is AMD; "Intel Corporation" is Intel. */
export function shortVendor(vendor: string): string {
  const bracket = /\[([^[\]]+)\]/.exec(vendor)?.[1].split('/')[0];
  return (bracket ?? vendor).replace(/,? (Inc|Corp|Corporation|Co|Ltd|LLC|Limited|Technologies|Technology|Semiconductor|Electronics|GmbH|AG)\b\.?.*$/i, '').trim() || vendor;
}
