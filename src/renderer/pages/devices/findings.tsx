// Findings as people read them: what is so, what to do, and the commands for a terminal where there are some.
import { Info, OctagonAlert, TriangleAlert } from 'lucide-react';
import type { Finding } from '../../../shared/host-devices.ts';
import styles from './devices.module.css';

const signs = { information: Info, care: TriangleAlert, refused: OctagonAlert } as const;
const words = { information: 'Good to know', care: 'With care', refused: 'Not possible' } as const;

export function Commands({ title, commands }: { title: string; commands: readonly string[] }) {
  return <><p>{title}</p><pre className={styles.commands} tabIndex={0}>{commands.join('\n')}</pre></>;
}

export function Findings({ findings }: { findings: readonly Finding[] }) {
  return (
    <ul className={styles.findings}>
      {findings.map((finding) => {
        const { code, aspect = '', severity, sentence, remedy, commands, undo } = finding;
        const Sign = signs[severity];
        return (
          <li key={`${code} ${aspect}`} className={styles[severity]} data-finding={code}>
            <Sign size={16} role="img" aria-label={words[severity]} />
            <div>
              <p className={styles.sentence}>{sentence}</p>
              {remedy !== '' && <p>{remedy}</p>}
              {commands !== undefined && <Commands title="In a terminal:" commands={commands} />}
              {undo !== undefined && <Commands title="To undo it:" commands={undo} />}
            </div>
          </li>
        );
      })}
    </ul>
  );
}
