// Where the focus goes when what has it is taken away: a button that has done its work goes with what it was about, and the browser would let
// the next key press begin at the top of the page. Here it stays near: on what can be pressed beside it, if that is still there (the way
// back, mostly), else on the heading that it stood under, which a screen reader then reads.
import { useEffect, useRef } from 'react';
import type { RefObject } from 'react';

const PRESSABLE = 'button:not(:disabled):not([aria-disabled="true"])';
const HEADING = 'h1, h2, h3';

/** The first heading in an element that is not one of another row. */
function headingOf(element: Element): HTMLElement | undefined {
  return [...element.querySelectorAll<HTMLElement>(HEADING)].find((heading) => heading.closest('li')?.contains(element) !== false);
}

/** @param way from what had the focus up to the root. The nearest place that is still there. */
function placeIn(way: readonly Element[], root: HTMLElement): HTMLElement | null {
  const there = way.filter((element) => root.contains(element));
  for (const element of there) {
    // One thing that was found, or one row of a list, is small enough for "beside".
    const beside = element.matches('[data-finding], li') ? (element.querySelector<HTMLElement>(PRESSABLE) ?? undefined) : undefined;
    const place = beside ?? headingOf(element);
    if (place !== undefined) return place;
  }
  return null;
}

/** Keeps the focus within what the returned reference is put on. */
export function useKeptFocus<T extends HTMLElement>(): RefObject<T | null> {
  const root = useRef<T>(null);
  useEffect(() => {
    const element = root.current;
    if (element === null) return;
    let way: Element[] = [];
    const onFocus = ({ target }: FocusEvent): void => {
      way = [];
      for (let at = target as Element | null; at !== null && at !== element; at = at.parentElement) way.push(at);
      way.push(element);
    };
    // The focus that went elsewhere is nothing to keep, nor that of somebody who clicked elsewhere; one that fell with its element tells nobody.
    const onBlur = ({ relatedTarget }: FocusEvent): void => {
      if (relatedTarget !== null) way = [];
    };
    const onPointer = ({ target }: PointerEvent): void => {
      if (way.length > 0 && !way[0].contains(target as Node)) way = [];
    };
    const observer = new MutationObserver(() => {
      if (way.length === 0 || way[0].isConnected || (document.activeElement !== document.body && document.activeElement !== null)) return;
      const place = placeIn(way, element);
      way = [];
      if (place === null) return;
      if (place.matches(HEADING)) place.tabIndex = -1;
      place.focus();
    });
    element.addEventListener('focusin', onFocus);
    element.addEventListener('focusout', onBlur);
    document.addEventListener('pointerdown', onPointer);
    observer.observe(element, { childList: true, subtree: true });
    return () => {
      observer.disconnect();
      element.removeEventListener('focusin', onFocus);
      element.removeEventListener('focusout', onBlur);
      document.removeEventListener('pointerdown', onPointer);
    };
  }, []);
  return root;
}
