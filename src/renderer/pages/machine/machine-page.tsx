// A machine's window: its screen, its console, its log, and what can be asked of it. The screen has all the room; in full screen the
// bar waits at the upper edge.
import { Suspense, lazy, useCallback, useEffect, useRef, useState } from 'react';
import { Camera, ChevronLeft, Ellipsis, Expand, Keyboard, Pause, Play, Power, Shrink } from 'lucide-react';
import { Button as AriaButton, Tab, TabList, TabPanel, Tabs } from 'react-aria-components';
import type { Key } from 'react-aria-components';
import { Button, IconButton } from '../../components/button.tsx';
import { machineMenuItems } from '../../components/machine-menu.tsx';
import { Menu, MenuItem, MenuSection } from '../../components/menu.tsx';
import { ProblemNotice } from '../../components/notice.tsx';
import { StateSign } from '../../components/state-sign.tsx';
import { machineLink } from '../../client/machine-link.ts';
import type { LibraryEntry } from '../../../shared/protocol/front.ts';
import type { ConsolePort } from '../../../shared/protocol/machine.ts';
import type { MenuCommand } from '../../../shared/bridge.ts';
import { useFront } from '../../state/front.ts';
import { isLive, pauseMachine, resumeMachine, sendKeys, shutDown, startMachine, useJobs, useMachine } from '../../state/machines.ts';
import { usePreferences } from '../../state/preferences.ts';
import { go } from '../../state/route.ts';
import type { MachineTab } from '../../state/route.ts';
import { nameOf, screenWords, shownState } from '../../state/words.ts';
import { onCommand, typingInto } from '../commands.ts';
import { NoMachine } from '../no-machine.tsx';
import { combinationGroups } from './key-combinations.ts';
import { useFullScreen } from './full-screen.ts';
import { GuestMemory } from './guest-memory.tsx';
import { LiveLog, LogText } from './log-text.tsx';
import type { Size } from './place-screen.ts';
import { PartsTab } from './parts/parts-tab.tsx';
import { useReason } from './reason.tsx';
import { Screen } from './screen.tsx';
import type { ScreenHandle } from './screen.tsx';
import { saveScreenshot } from './screenshot.ts';
import styles from './machine.module.css';

/** The terminal is a third of the page's code, and many look only at the screen. */
const Console = lazy(async () => ({ default: (await import('./console.tsx')).Console }));

const noPorts: readonly ConsolePort[] = [];

const tabNames: Array<{ id: MachineTab; text: string }> = [
  { id: 'screen', text: 'Screen' },
  { id: 'console', text: 'Console' },
  { id: 'log', text: 'Log' },
  { id: 'devices', text: 'Devices' },
];

export function MachinePage({ id, tab }: { id: string; tab: MachineTab }) {
  const offline = useFront((front) => front.status === 'offline');
  const entry = useFront((front) => front.machines?.[id]);
  useEffect(() => {
    document.title = entry === undefined ? 'Vitrine' : `${nameOf(entry)} – Vitrine`;
    return () => { document.title = 'Vitrine'; };
  }, [entry]);

  if (entry?.config === undefined) return <NoMachine id={id} back="machines" />;
  return <OneMachine key={id} entry={entry} tab={tab} offline={offline} />;
}

function OneMachine({ entry, tab, offline }: { entry: LibraryEntry; tab: MachineTab; offline: boolean }) {
  const { id } = entry;
  const name = nameOf(entry);
  const known = isLive(entry.state);
  // A machine that is only just starting has no socket yet, one that is stopping may have none any more.
  const reachable = entry.state === 'running' || entry.state === 'paused' || (entry.state === 'stopping' && machineLink(id).view.link === 'online');
  const { machine, link, source } = useMachine(id, reachable && !offline);
  // The machine itself knows sooner than the library; an ended one is the library's to tell.
  const told = link === 'online' && machine !== null && machine.state !== 'ended' ? machine.state : null;
  const state: LibraryEntry['state'] = known && told !== null ? told : entry.state;
  const live = isLive(state);
  const why = useFront((front) => front.host?.why ?? '');
  const scale = usePreferences((preferences) => preferences.scale);
  const setScale = usePreferences((preferences) => preferences.setScale);
  const starting = useJobs((jobs) => jobs.starting[id] !== undefined);
  const page = useRef<HTMLDivElement>(null);
  const screen = useRef<ScreenHandle>(null);
  const full = useFullScreen(page);
  const [captured, setCaptured] = useState(false);
  const [placed, setPlaced] = useState<{ size: Size; scale: number } | null>(null);
  const [barWanted, setBarWanted] = useState(false);
  const reason = useReason({ entry, state, machine, link, offline, captured, onTake: () => screen.current?.take() });
  const interactive = live && state !== 'paused' && link === 'online' && !offline;
  const blind = entry.config?.display.kind === 'none';

  // Another window took the keyboard: this one must not look as if it still had it.
  const owner = machine?.inputOwner;
  const wasMine = useRef(false);
  useEffect(() => {
    const mine = owner !== undefined && owner === machine?.you;
    if (wasMine.current && owner !== undefined && !mine) screen.current?.release();
    wasMine.current = mine;
  }, [owner, machine?.you]);

  const show = useCallback((next: MachineTab) => go({ page: 'machine', id, tab: next }), [id]);
  const keepScreenshot = useCallback(() => { if (live && !blind) void saveScreenshot(id, name); }, [id, name, live, blind]);
  const flipScale = useCallback(() => setScale(scale === 'fit' ? 'exact' : 'fit'), [scale, setScale]);

  useEffect(() => onCommand((command: MenuCommand) => {
    if (command === 'screen' || command === 'console' || command === 'log') show(command);
    else if (command === 'parts') show('devices');
    else if (command === 'screenshot') keepScreenshot();
    else if (command === 'scale') flipScale();
  }), [show, keepScreenshot, flipScale]);

  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      const plain = !event.ctrlKey && !event.altKey && !event.metaKey;
      const index = ['Digit1', 'Digit2', 'Digit3', 'Digit4'].indexOf(event.code);
      if (event.altKey && !event.ctrlKey && index >= 0) show(tabNames[index].id);
      else if (event.key === 'F11') full.toggle();
      else if (event.ctrlKey && event.shiftKey && event.code === 'KeyS') keepScreenshot();
      else if (event.key === 'Escape' && plain && !event.defaultPrevented && !typingInto(event.target)) {
        if (full.on) full.toggle();
        else go({ page: 'machines' });
      } else return;
      event.preventDefault();
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, [show, full, keepScreenshot]);

  return (
    <div className={styles.page} ref={page} data-full={full.on || undefined} data-testid="machine-page">
      <Tabs className={styles.body} selectedKey={tab} onSelectionChange={(key: Key) => show(tabNames.find((one) => one.id === key)?.id ?? 'screen')}>
        {full.on && !captured && <div className={styles.edge} onPointerEnter={() => setBarWanted(true)} />}
        <header className={styles.bar} data-shown={(barWanted && !captured) || undefined} onPointerLeave={() => setBarWanted(false)}>
          <div className={styles.left}>
            <Button kind="plain" className={styles.back} aria-label="Back to the machines" onPress={() => go({ page: 'machines' })}><ChevronLeft size={16} aria-hidden /><span>Machines</span></Button>
            <span className={styles.rule} />
            <h1 title={name}>{name}</h1>
            <StateSign state={starting && !live ? 'starting' : shownState({ ...entry, state })} />
          </div>
          <TabList className={styles.tabs} aria-label={`Views of ${name}`}>
            {tabNames.map(({ id: tabId, text }) => <Tab key={tabId} id={tabId} className={styles.tab} data-text={text}>{text}</Tab>)}
          </TabList>
          <div className={styles.right}>
            {live && <SendKeys id={id} name={name} disabled={!interactive} />}
            {live && !blind && <IconButton label="Save a screenshot" shortcut="Ctrl+Shift+S" isDisabled={link !== 'online'} onPress={keepScreenshot}><Camera size={18} aria-hidden /></IconButton>}
            <IconButton label={full.on ? 'Leave full screen' : 'Full screen'} shortcut="F11" onPress={full.toggle}>
              {full.on ? <Shrink size={18} aria-hidden /> : <Expand size={18} aria-hidden />}
            </IconButton>
            {live && state !== 'paused' && <Button aria-label="Pause" isDisabled={state !== 'running' || offline} onPress={() => void pauseMachine(id, name)}><Pause size={16} aria-hidden /><span className={styles.wide}>Pause</span></Button>}
            {state === 'paused' && <Button aria-label="Resume" isDisabled={offline} onPress={() => void resumeMachine(id, name)}><Play size={16} aria-hidden /><span className={styles.wide}>Resume</span></Button>}
            {live && <Button aria-label="Shut down" isDisabled={state !== 'running' || offline} onPress={() => void shutDown(id, name)}><Power size={16} aria-hidden /><span className={styles.wide}>Shut down</span></Button>}
            {!live && tab !== 'screen' && <Button isDisabled={offline || starting} onPress={() => void startMachine(id, name)}>Start</Button>}
            <Menu label={`More for ${name}`} trigger={<IconButton label={`More for ${name}`} isDisabled={offline}><Ellipsis size={18} aria-hidden /></IconButton>}>
              {machineMenuItems({ entry: { ...entry, state }, place: 'page' })}
            </Menu>
          </div>
        </header>
        {machine?.problem !== undefined && live && <div className={styles.strip}><ProblemNotice problem={machine.problem} /></div>}

        <TabPanel id="screen" shouldForceMount className={styles.panel}>
          <Screen
            source={source} name={name} active={tab === 'screen'} interactive={interactive} tablet={machine?.tablet === true} choice={scale} over={reason}
            onPlaced={setPlaced} onCaptured={setCaptured} handle={screen}
          />
          <footer className={styles.status}>
            {placed === null
              ? <span>{!live ? 'Off' : blind ? 'No screen here' : 'No picture yet'}</span>
              : <span data-testid="screen-size">{screenWords(placed.size.width, placed.size.height, placed.scale)}</span>}
            {interactive && <span className={styles.hint} data-testid="capture-hint">{captured ? (machine?.tablet === true ? 'Ctrl+Alt gives the keyboard back' : 'Ctrl+Alt gives keyboard and pointer back') : blind ? 'Click here, or press Enter here, to type and point there' : 'Click the screen, or press Enter on it, to type and point there'}</span>}
            <div className={styles.end}>
              {machine?.leds.caps === true && live && <span>Caps lock</span>}
              {live && machine !== null && <GuestMemory source={source} machine={machine} />}
              {machine !== null && live && machine.viewers > 1 && <span>{machine.viewers} windows look at it</span>}
              {machine?.backend === 'lab' && live && <span title={why}>In the lab, so slower</span>}
              {!blind && <AriaButton className={styles.scale} onPress={flipScale}>{scale === 'fit' ? 'Show 1:1' : 'Scale to fit'}</AriaButton>}
            </div>
          </footer>
        </TabPanel>
        <TabPanel id="console" className={styles.panel}>
          <Suspense fallback={null}><Console source={source} name={name} live={live && link === 'online'} ports={machine?.consoles ?? noPorts} /></Suspense>
        </TabPanel>
        <TabPanel id="log" className={`${styles.panel} ${styles.padded}`}>
          {entry.problem !== undefined && !live && <ProblemNotice problem={entry.problem} alert={false} />}
          {live && !offline ? <LiveLog source={source} /> : <LogText key={entry.lastOutcome?.endedAt} id={id} />}
        </TabPanel>
        <TabPanel id="devices" className={styles.panel}>
          <PartsTab entry={{ ...entry, state }} offline={offline} />
        </TabPanel>
      </Tabs>
    </div>
  );
}

function SendKeys({ id, name, disabled }: { id: string; name: string; disabled: boolean }) {
  return (
    <Menu label="Send keys" trigger={<Button isDisabled={disabled} aria-label="Send keys"><Keyboard size={16} aria-hidden /><span className={styles.wide}>Send keys</span></Button>}>
      {combinationGroups.map(({ heading, combinations }) => (
        <MenuSection key={heading} heading={heading}>
          {combinations.map(({ text, codes }) => (
            <MenuItem key={text} text={text} onAction={() => void sendKeys(id, name, codes)} />
          ))}
        </MenuSection>
      ))}
    </Menu>
  );
}

