// JSON merge patches (RFC 7396) over plain JSON values: applied by clients, computed by servers from two states of a topic.
// Objects are merged member by member, null removes a member, everything else (arrays too) replaces. Values must not contain null.

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json | undefined };

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Own data property, whatever the key is called: an assignment to "__proto__" would set the prototype. */
function put(target: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(target, key, { value, writable: true, enumerable: true, configurable: true });
}

/** The value after the patch, as a new object; `target` stays as it was, and unchanged members are shared with it. */
export function applyPatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const merged: Record<string, unknown> = {};
  if (isObject(target)) for (const key of Object.keys(target)) put(merged, key, target[key]);
  for (const key of Object.keys(patch)) {
    const change = patch[key];
    if (change === null) delete merged[key];
    else put(merged, key, applyPatch(Object.hasOwn(merged, key) ? merged[key] : undefined, change));
  }
  return merged;
}

/** Whether two JSON values are the same; members that are undefined count as absent. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((item, i) => sameJson(item, b[i]));
  if (!isObject(a) || !isObject(b)) return false;
  const keysOfA = Object.keys(a).filter((key) => a[key] !== undefined);
  const keysOfB = Object.keys(b).filter((key) => b[key] !== undefined);
  return keysOfA.length === keysOfB.length && keysOfA.every((key) => Object.hasOwn(b, key) && sameJson(a[key], b[key]));
}

/** The patch that makes `after` of `before`, or undefined when they are the same. */
export function diff(before: unknown, after: unknown): unknown {
  if (sameJson(before, after)) return undefined;
  if (!isObject(before) || !isObject(after)) return after;
  const patch: Record<string, unknown> = {};
  for (const key of Object.keys(before)) {
    if (before[key] !== undefined && (!Object.hasOwn(after, key) || after[key] === undefined)) put(patch, key, null);
  }
  for (const key of Object.keys(after)) {
    if (after[key] === undefined) continue;
    const old = Object.hasOwn(before, key) ? before[key] : undefined;
    if (sameJson(old, after[key])) continue;
    // An object that takes the place of something else is sent whole; a merge into nothing gives the same.
    put(patch, key, isObject(old) && isObject(after[key]) ? diff(old, after[key]) : after[key]);
  }
  return patch;
}
