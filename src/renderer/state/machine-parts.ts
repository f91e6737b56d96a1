// What can be done with the devices of a machine, in calls, and what is known of its images.
import { useEffect, useState } from 'react';
import type { LookedAt } from '../../shared/disks.ts';
import type { DiskFormat } from '../../shared/virtio-config.ts';
import { front, useFront } from './front.ts';

/** How often images are looked at while they are shown, in milliseconds: what a running guest writes makes them grow. */
const LOOK_AGAIN = 10_000;
/** A text that is being typed is looked at after this pause, in milliseconds. */
const TYPED = 300;

export interface ImageQuestion {
  file: string;
  format?: DiskFormat;
}

/** What these images are, by file; absent until it is known. @param again another value has them looked at again */
export function useImages(files: readonly ImageQuestion[], again: unknown = null): Readonly<Record<string, LookedAt>> {
  const [looks, setLooks] = useState<Record<string, LookedAt>>({});
  const online = useFront((state) => state.status === 'online');
  const key = JSON.stringify(files.map(({ file, format }) => (format === undefined ? { file } : { file, format })));
  useEffect(() => {
    const questions = JSON.parse(key) as ImageQuestion[];
    if (questions.length === 0 || !online) return;
    let over = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const abort = new AbortController();
    const look = async (): Promise<void> => {
      try {
        const { disks } = await front().call('describeDisks', { files: questions }, { signal: abort.signal });
        if (!over) setLooks(Object.fromEntries(questions.map(({ file }, at) => [file, disks[at]!])));
      } catch {
        // The front has gone: what was known stays.
      }
      if (!over) timer = setTimeout(() => void look(), LOOK_AGAIN);
    };
    void look();
    return () => {
      over = true;
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, online, again]);
  return looks;
}

/** The addresses of a machine's network cards, by slot. @param cards what they are made of: they are asked for again when that changes */
export function useAddresses(id: string, cards: readonly (string | number)[]): Readonly<Record<string, string>> {
  const [addresses, setAddresses] = useState<Record<string, string>>({});
  const online = useFront((state) => state.status === 'online');
  const key = cards.join(' ');
  useEffect(() => {
    if (key === '' || !online) return;
    let over = false;
    front().call('networkAddresses', { id }).then((found) => { if (!over) setAddresses(found.addresses); }, () => {}); // the machine has gone
    return () => { over = true; };
  }, [id, key, online]);
  return addresses;
}

/** The image at a path that is being typed; undefined while it is not known. */
export function useTypedImage(text: string, format?: DiskFormat): LookedAt | undefined {
  const [typed, setTyped] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setTyped(text), TYPED);
    return () => clearTimeout(timer);
  }, [text]);
  const file = typed.trim();
  const looks = useImages(file.startsWith('/') ? [{ file, ...(format === undefined ? {} : { format }) }] : []);
  return text.trim() === file ? looks[file] : undefined;
}
