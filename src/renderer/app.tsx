// The window: the bar, the ways to the pages, the page, and what may lie over it.
import { useEffect, useRef, useState } from 'react';
import { Cpu, Keyboard, Monitor, Moon, Server, Sun, SunMoon } from 'lucide-react';
import { ToggleButton, ToggleButtonGroup } from 'react-aria-components';
import { Button, IconButton } from './components/button.tsx';
import { SearchField } from './components/field.tsx';
import { Notice } from './components/notice.tsx';
import { onCommand, runCommand, typingInto } from './pages/commands.ts';
import { Dialogs } from './pages/dialogs.tsx';
import { GivePage } from './pages/give/give-page.tsx';
import { DevicesPage } from './pages/devices/devices-page.tsx';
import { HostPage } from './pages/host/host-page.tsx';
import { LibraryPage } from './pages/library/library.tsx';
import { MachinePage } from './pages/machine/machine-page.tsx';
import { Troubles } from './pages/troubles.tsx';
import { openDialog, useDialogs } from './state/dialogs.ts';
import { retryFront, useFront } from './state/front.ts';
import { countGiven } from './state/machine-devices.ts';
import { usePreferences } from './state/preferences.ts';
import type { ThemeChoice } from './state/preferences.ts';
import { go, hashOf, useRoute } from './state/route.ts';
import styles from './app.module.css';

const themes: Array<{ id: ThemeChoice; text: string; icon: typeof Sun }> = [
  { id: 'system', text: 'Theme of the system', icon: SunMoon },
  { id: 'light', text: 'Light theme', icon: Sun },
  { id: 'dark', text: 'Dark theme', icon: Moon },
];

function ThemeSwitch() {
  const theme = usePreferences((preferences) => preferences.theme);
  const setTheme = usePreferences((preferences) => preferences.setTheme);
  return (
    <ToggleButtonGroup
      className={styles.themes} aria-label="Theme" disallowEmptySelection selectedKeys={[theme]}
      onSelectionChange={(keys) => { const chosen = themes.find(({ id }) => keys.has(id)); if (chosen !== undefined) setTheme(chosen.id); }}
    >
      {themes.map(({ id, text, icon: Icon }) => (
        <ToggleButton key={id} id={id} aria-label={text} className={styles.theme}><Icon size={15} aria-hidden /></ToggleButton>
      ))}
    </ToggleButtonGroup>
  );
}

/** What the whole window should know. The line about the lab stays off the pages that say it themselves or need the room. */
function Banner({ quiet }: { quiet: boolean }) {
  const offline = useFront((front) => front.status === 'offline');
  const host = useFront((front) => front.host);
  if (offline) {
    return (
      <div className={styles.offline}>
        <Notice gravity="care" alert title="Vitrine’s own server does not answer" actions={<Button onPress={retryFront}>Try again now</Button>}>
          <p>Machines that run go on running. What is shown here is how they were.</p>
        </Notice>
      </div>
    );
  }
  if (!quiet && host?.state === 'ready' && host.backend.linux === 'lab' && host.why !== '') {
    return <p className={styles.lab} role="status">{host.why} <a href={hashOf({ page: 'computer' })}>About this computer</a></p>;
  }
  return null;
}

function Shortcut() {
  const dialog = useDialogs((dialogs) => dialogs.open);
  useEffect(() => {
    if (dialog !== null) return;
    const onKey = (event: KeyboardEvent): void => {
      if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || typingInto(event.target)) return;
      if (event.key === '?') openDialog({ kind: 'shortcuts' });
      else if (event.key === '/') runCommand('find');
      else if (event.key === 'n' || event.key === 'N') runCommand('new-machine');
      else return;
      event.preventDefault();
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, [dialog]);
  return null;
}

export function App() {
  const route = useRoute();
  const [search, setSearch] = useState('');
  const searchInput = useRef<HTMLInputElement>(null);
  const count = useFront((front) => (front.machines === null ? null : Object.keys(front.machines).length));
  const given = useFront((front) => countGiven(front.machines));
  const offline = useFront((front) => front.status === 'offline');

  useEffect(() => onCommand((command) => {
    if (command === 'machines' || command === 'devices' || command === 'computer') go({ page: command });
    else if (command === 'new-machine') openDialog({ kind: 'new' });
    else if (command === 'shortcuts') openDialog({ kind: 'shortcuts' });
    else if (command === 'find') {
      go({ page: 'machines' });
      setTimeout(() => searchInput.current?.select(), 0);
    }
  }), []);

  const over = <><Dialogs /><Troubles /><Shortcut /></>;
  if (route.page === 'machine') {
    return (
      <div className={styles.window}>
        <Banner quiet />
        <main className={styles.whole}><MachinePage id={route.id} tab={route.tab} /></main>
        {over}
      </div>
    );
  }
  if (route.page === 'give') {
    return (
      <div className={styles.window}>
        <Banner quiet />
        <div className={styles.whole}><GivePage id={route.id} step={route.step} groups={route.groups} /></div>
        {over}
      </div>
    );
  }
  return (
    <div className={styles.window}>
      <header className={styles.bar}>
        <span className={styles.mark}><Mark />Vitrine</span>
        <span className={styles.grow} />
        {route.page === 'machines' && <SearchField label="Search machines" value={search} onChange={setSearch} inputRef={searchInput} />}
        <Button kind="primary" isDisabled={offline} onPress={() => openDialog({ kind: 'new' })}>New machine</Button>
      </header>
      <Banner quiet={route.page === 'computer'} />
      <div className={styles.body}>
        <nav className={styles.nav} aria-label="Pages">
          <a href={hashOf({ page: 'machines' })} aria-current={route.page === 'machines' ? 'page' : undefined}><Server size={16} aria-hidden />Machines{count !== null && <>{' '}<small>{count}</small></>}</a>
          <a href={hashOf({ page: 'devices' })} aria-current={route.page === 'devices' ? 'page' : undefined}><Cpu size={16} aria-hidden />Devices{given > 0 && <>{' '}<small>{given} given</small></>}</a>
          <a href={hashOf({ page: 'computer' })} aria-current={route.page === 'computer' ? 'page' : undefined}><Monitor size={16} aria-hidden />This computer</a>
          <span className={styles.grow} />
          <div className={styles.navFoot}>
            <ThemeSwitch />
            <IconButton label="Keyboard shortcuts" shortcut="?" onPress={() => openDialog({ kind: 'shortcuts' })}><Keyboard size={16} aria-hidden /></IconButton>
          </div>
        </nav>
        <main className={styles.main}>
          {route.page === 'computer' ? <HostPage /> : route.page === 'devices' ? <DevicesPage address={route.address} /> : <LibraryPage search={search} onSearch={setSearch} />}
        </main>
      </div>
      {over}
    </div>
  );
}

/** A glass case with a light in it. */
function Mark() {
  return (
    <svg width="20" height="20" viewBox="0 0 20 20" fill="none" stroke="currentColor" strokeWidth="1.6" aria-hidden>
      <rect x="2.5" y="2.5" width="15" height="12" rx="2.2" />
      <path d="M5 17.5h10M6 10.5l4-4.5" strokeLinecap="round" />
    </svg>
  );
}
