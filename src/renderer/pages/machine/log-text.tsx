// A machine's log: live from its process while it runs, from its file otherwise. Lines of the guest's host, never the guest's own words.
import { useEffect, useLayoutEffect, useRef, useState } from 'react';
import type { Problem } from '../../../shared/errors.ts';
import type { LogLine } from '../../../shared/protocol/machine.ts';
import type { MachineLink } from '../../client/machine-link.ts';
import { Button } from '../../components/button.tsx';
import { ProblemNotice } from '../../components/notice.tsx';
import { Waiting } from '../../components/waiting.tsx';
import { front, problemOf } from '../../state/front.ts';
import { clockWords } from '../../state/words.ts';
import styles from './log.module.css';

/** Lines kept on the page. */
const MOST_LINES = 5000;

/** Keeps the end in view while it is in view. */
function useStickyEnd() {
  const box = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  useLayoutEffect(() => {
    if (box.current !== null && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  });
  const onScroll = (): void => {
    const element = box.current;
    if (element !== null) atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < 24;
  };
  return { box, onScroll };
}

/** The log's file, as it stands. */
export function LogText({ id }: { id: string }) {
  const [turn, setTurn] = useState(0);
  return <LogFile key={turn} id={id} onAgain={() => setTurn(turn + 1)} />;
}

function LogFile({ id, onAgain }: { id: string; onAgain: () => void }) {
  const [log, setLog] = useState<{ text: string; path: string } | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const { box, onScroll } = useStickyEnd();
  useEffect(() => {
    let over = false;
    const read = async (): Promise<void> => {
      try {
        const found = await front().call('readLog', { id });
        if (!over) setLog(found);
      } catch (thrown) {
        if (!over) setProblem(problemOf(thrown, 'read the log', id));
      }
    };
    void read();
    return () => { over = true; };
  }, [id]);
  if (problem !== null) {
    return <div className={styles.log}><ProblemNotice problem={problem} actions={<Button onPress={onAgain}>Read it again</Button>} /></div>;
  }
  if (log === null) return <div className={styles.centre}><Waiting words="Reading the log" /></div>;
  return (
    <div className={styles.frame}>
      <div className={styles.log} ref={box} onScroll={onScroll} tabIndex={0} role="log" aria-label="Log">
        {log.text === '' ? <p className={styles.nothing}>The log is empty.</p> : <pre>{log.text}</pre>}
      </div>
      <code className={styles.where}>{log.path}</code>
    </div>
  );
}

/** The log as the machine's process writes it. */
export function LiveLog({ source }: { source: MachineLink }) {
  const [lines, setLines] = useState<LogLine[] | null>(null);
  const { box, onScroll } = useStickyEnd();
  useEffect(() => source.onOpen((client) => client.stream(
    'log',
    (backlog) => setLines(backlog.lines),
    (more) => setLines((old) => [...(old ?? []), ...more].slice(-MOST_LINES)),
    () => {},
  )), [source]);
  if (lines === null) return <div className={styles.centre}><Waiting words="Reading the log" /></div>;
  return (
    <div className={styles.frame}>
      <div className={styles.log} ref={box} onScroll={onScroll} tabIndex={0} role="log" aria-label="Log">
        {lines.length === 0 && <p className={styles.nothing}>Nothing to say so far.</p>}
        {lines.map((line, index) => (
          <div key={index} className={styles.line} data-level={line.level}>
            <time>{clockWords(line.at)}</time><span className={styles.level}>{line.level}</span><span>{line.text}</span>
          </div>
        ))}
      </div>
    </div>
  );
}
