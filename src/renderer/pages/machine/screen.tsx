// The guest's screen, with all the room there is: scaled to fit or one to one, keyboard and pointer on a click. What the guest showed
// last stays there, dimmed, when it pauses, fails or ends, with the reason over it.
import { useCallback, useEffect, useImperativeHandle, useLayoutEffect, useRef, useState } from 'react';
import type { ReactNode, Ref } from 'react';
import type { MachineLink } from '../../client/machine-link.ts';
import { ScreenRenderer } from '../../display/screen-renderer.ts';
import { InputCapture } from '../../input/capture.ts';
import type { ScaleChoice } from '../../state/preferences.ts';
import { placeScreen } from './place-screen.ts';
import type { Size } from './place-screen.ts';
import styles from './screen.module.css';

export interface ScreenHandle {
  /** Gives keyboard and pointer to the guest. */
  take: () => void;
  release: () => void;
}

export interface ScreenProps {
  source: MachineLink;
  name: string;
  /** The tab is in view. */
  active: boolean;
  /** The guest runs: it can be typed into. */
  interactive: boolean;
  /** The guest works a tablet: its pointer is where the person's is. */
  tablet: boolean;
  choice: ScaleChoice;
  /** Over the picture, which is dimmed then. */
  over?: ReactNode;
  onPlaced: (placed: { size: Size; scale: number } | null) => void;
  onCaptured: (captured: boolean) => void;
  handle: Ref<ScreenHandle>;
}

export function Screen({ source, name, active, interactive, tablet, choice, over, onPlaced, onCaptured, handle }: ScreenProps) {
  const frame = useRef<HTMLDivElement>(null);
  const pane = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const renderer = useRef<ScreenRenderer>(null);
  const capture = useRef<InputCapture>(null);
  const scale = useRef(1);
  const [size, setSize] = useState<Size | null>(null);
  const [room, setRoom] = useState<Size>({ width: 0, height: 0 });
  const [captured, setCaptured] = useState(false);
  const picture = useRef<Size | null>(null);

  useImperativeHandle(handle, () => ({ take: () => capture.current?.take(), release: () => capture.current?.release() }), []);

  useEffect(() => {
    if (canvas.current === null) return;
    const mine = new ScreenRenderer(canvas.current, {
      acknowledge: (message) => source.client?.sendBinary(message),
      // A guest that shows nothing leaves the last picture's place as it was.
      onSize: (now) => { if (now !== null) setSize({ ...now }); },
      reattach: () => void source.client?.call('attachScreen', {}).catch(() => {}),
    });
    renderer.current = mine;
    return () => {
      mine.dispose();
      renderer.current = null;
    };
  }, [source]);

  // Frames come while the tab is in view, to every client that opens.
  useEffect(() => {
    if (!active) return;
    return source.onOpen((client) => {
      client.onBinary = (message) => renderer.current?.receive(message);
      void client.call('attachScreen', {}).catch(() => {});
      return () => {
        client.onBinary = null;
        void client.call('detachScreen', {}).catch(() => {});
      };
    });
  }, [source, active]);

  // Keyboard and pointer.
  useEffect(() => {
    if (pane.current === null || !interactive || !active) return;
    const mine = new InputCapture({
      element: pane.current,
      send: (message) => source.client?.sendBinary(message),
      scale: () => scale.current,
      tablet: () => picture.current,
      onChange: (now) => {
        setCaptured(now);
        onCaptured(now);
        const asked = source.client?.call(now ? 'takeInput' : 'releaseInput', {});
        // Refused when another window took it meanwhile: then there is nothing left to give back.
        asked?.catch(() => {});
      },
    });
    capture.current = mine;
    return () => {
      mine.dispose();
      capture.current = null;
    };
  }, [source, interactive, active, onCaptured]);

  useEffect(() => {
    picture.current = tablet ? size : null;
    capture.current?.tabletChanged();
  }, [tablet, size]);

  const measure = useCallback(() => {
    const element = frame.current;
    if (element !== null) setRoom({ width: element.clientWidth, height: element.clientHeight });
  }, []);
  useLayoutEffect(() => {
    const element = frame.current;
    if (element === null) return;
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [measure]);

  const placed = size === null ? null : placeScreen(size, room, choice, window.devicePixelRatio);
  const shownScale = placed?.scale ?? 1;
  useEffect(() => {
    scale.current = shownScale;
    onPlaced(size === null ? null : { size, scale: shownScale * window.devicePixelRatio });
  }, [size, shownScale, onPlaced]);

  return (
    <div className={styles.frame} ref={frame} data-exact={choice === 'exact' || undefined}>
      <div
        ref={pane} className={styles.pane} tabIndex={interactive ? 0 : -1} data-captured={captured || undefined} data-tablet={(tablet && captured) || undefined} data-dim={over !== undefined || undefined}
        role="application" aria-label={`Screen of ${name}`} aria-roledescription="screen of a virtual machine" data-testid="screen"
        style={placed === null ? undefined : { width: placed.width, height: placed.height }}
        onKeyDown={(event) => {
          if (event.key !== 'Enter' || captured || !interactive) return;
          event.preventDefault();
          capture.current?.take();
        }}
      >
        <canvas
          ref={canvas} className={styles.canvas} data-crisp={placed?.crisp === true || undefined}
          style={placed === null ? { width: 0, height: 0 } : { width: placed.width, height: placed.height }}
        />
      </div>
      {over !== undefined && <div className={styles.over}>{over}</div>}
    </div>
  );
}
