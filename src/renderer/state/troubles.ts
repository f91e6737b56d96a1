// What went wrong with something that the person asked for: shown in a corner until it is read and dismissed.
import { create } from 'zustand';
import type { Problem } from '../../shared/errors.ts';

export interface Trouble {
  key: number;
  problem: Problem;
  /** The machine whose log tells more. */
  machineId?: string;
}

interface Troubles {
  list: Trouble[];
  /** What went well and is worth a line: "Saved to …". */
  note: { key: number; text: string } | null;
}

/** More than this many at once help nobody; the oldest go. */
const MOST = 4;
/** A line about success leaves by itself after this many milliseconds. */
const NOTE_STAYS = 6000;

let nextKey = 1;

export const useTroubles = create<Troubles>(() => ({ list: [], note: null }));

export function reportTrouble(problem: Problem, machineId?: string): void {
  if (problem.code === 'cancelled') return;
  useTroubles.setState(({ list }) => {
    // The same thing said again replaces what was said before.
    const others = list.filter((one) => one.problem.attempted !== problem.attempted || one.problem.on !== problem.on);
    return { list: [...others, { key: nextKey++, problem, machineId }].slice(-MOST) };
  });
}

export function dismissTrouble(key: number): void {
  useTroubles.setState(({ list }) => ({ list: list.filter((one) => one.key !== key) }));
}

export function sayDone(text: string): void {
  const key = nextKey++;
  useTroubles.setState({ note: { key, text } });
  setTimeout(() => {
    if (useTroubles.getState().note?.key === key) useTroubles.setState({ note: null });
  }, NOTE_STAYS);
}

export function dismissNote(): void {
  useTroubles.setState({ note: null });
}
