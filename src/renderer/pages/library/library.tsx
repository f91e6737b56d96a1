// The library: every machine as a card, in an order that does not change while one looks. With 500 machines only the cards in view
// are in the document.
import { useMemo } from 'react';
import { Boxes, SearchX } from 'lucide-react';
import { GridLayout, GridList, GridListItem, Size, Virtualizer } from 'react-aria-components';
import type { LibraryEntry } from '../../../shared/protocol/front.ts';
import { Button } from '../../components/button.tsx';
import { ProblemNotice } from '../../components/notice.tsx';
import { Waiting } from '../../components/waiting.tsx';
import { openDialog } from '../../state/dialogs.ts';
import { useFront } from '../../state/front.ts';
import { nameOf } from '../../state/words.ts';
import { Card, openCard } from './card.tsx';
import { inOrder, matching } from './order.ts';
import styles from './library.module.css';

/**
 * The layout takes `minSpace` once a column and deals it out between and around the cards: 32 are 24 with three columns, which is the
 * page's own margin.
 */
const layoutOptions = { minItemSize: new Size(300, 256), maxItemSize: new Size(480, 480), minSpace: new Size(32, 24) };

export interface LibraryPageProps {
  search: string;
  onSearch: (search: string) => void;
}

export function LibraryPage({ search, onSearch }: LibraryPageProps) {
  const machines = useFront((front) => front.machines);
  const offline = useFront((front) => front.status === 'offline');
  const problem = useFront((front) => front.problem);
  const all = useMemo(() => inOrder(Object.values(machines ?? {})), [machines]);
  const shown = useMemo(() => matching(all, search), [all, search]);

  return (
    <div className={styles.page}>
      <header className={styles.head}>
        <h1>Machines</h1>
        {search !== '' && machines !== null && <span role="status">{shown.length} of {all.length}</span>}
      </header>
      {problem !== null && <div className={styles.notices}><ProblemNotice problem={problem} /></div>}
      <Content machines={machines === null ? null : all} shown={shown} search={search} onSearch={onSearch} offline={offline} />
    </div>
  );
}

interface ContentProps extends LibraryPageProps {
  machines: LibraryEntry[] | null;
  shown: LibraryEntry[];
  offline: boolean;
}

function Content({ machines, shown, search, onSearch, offline }: ContentProps) {
  if (machines === null) return <div className={styles.empty}>{!offline && <Waiting words="Reading the library" />}</div>;
  if (machines.length === 0) {
    return (
      <div className={styles.empty}>
        <Boxes size={32} strokeWidth={1.5} aria-hidden />
        <h2>No machines yet</h2>
        <p>A machine begins with a kernel: choose one, give it memory and CPUs, and it boots onto its own screen here.</p>
        <Button kind="primary" isDisabled={offline} onPress={() => openDialog({ kind: 'new' })}>New machine</Button>
      </div>
    );
  }
  if (shown.length === 0) {
    return (
      <div className={styles.empty}>
        <SearchX size={32} strokeWidth={1.5} aria-hidden />
        <h2>No machine matches “{search.length > 40 ? `${search.slice(0, 40)}…` : search}”</h2>
        <p>The search looks at names.</p>
        <Button onPress={() => onSearch('')}>Clear the search</Button>
      </div>
    );
  }
  return (
    <Virtualizer layout={GridLayout} layoutOptions={layoutOptions}>
      <GridList
        aria-label="Machines" layout="grid" className={styles.grid} items={shown} dependencies={[offline]}
        keyboardNavigationBehavior="tab" selectionMode="none"
        onAction={(key) => { const entry = shown.find(({ id }) => id === key); if (entry !== undefined) openCard(entry); }}
      >
        {(entry) => (
          <GridListItem id={entry.id} textValue={nameOf(entry)} className={styles.item}>
            <Card entry={entry} offline={offline} />
          </GridListItem>
        )}
      </GridList>
    </Virtualizer>
  );
}
