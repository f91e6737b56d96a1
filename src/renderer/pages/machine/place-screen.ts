// How large the guest's picture is drawn: as large as fits, or one of its pixels to one of the display's.
import type { ScaleChoice } from '../../state/preferences.ts';

export interface Size {
  width: number;
  height: number;
}

export interface Placed extends Size {
  /** CSS pixels per pixel of the guest. */
  scale: number;
  /** Each pixel of the guest covers whole pixels of the display: no smoothing wanted. */
  crisp: boolean;
}

/**
 * @param size the guest's mode
 * @param room CSS pixels that there are
 * @param ratio display pixels per CSS pixel
 */
export function placeScreen(size: Size, room: Size, choice: ScaleChoice, ratio: number): Placed {
  const wanted = choice === 'exact' ? 1 / ratio : Math.min(room.width / size.width, room.height / size.height);
  const scale = wanted > 0 && Number.isFinite(wanted) ? wanted : 1 / ratio;
  const whole = scale * ratio;
  return {
    width: size.width * scale,
    height: size.height * scale,
    scale,
    crisp: Math.abs(whole - Math.round(whole)) < 0.001 && Math.round(whole) >= 1,
  };
}
