// Findings as people read them: what is so, what to do, the buttons that do it, and the commands for a terminal where there are some.
import { Info, OctagonAlert, TriangleAlert } from 'lucide-react';
import type { Finding, Use } from '../../../shared/host-devices.ts';
import { Commands } from '../../components/commands.tsx';
import { Remedies, useActions } from './remedies.tsx';
import type { RomPart } from './remedies.tsx';
import styles from './devices.module.css';

const signs = { information: Info, care: TriangleAlert, refused: OctagonAlert } as const;
const words = { information: 'Good to know', care: 'With care', refused: 'Not possible' } as const;

/** What to do about it, in words, buttons and commands. */
export function WhatToDo({ finding, on, rom }: { finding: Finding; on: string; rom?: RomPart }) {
  const { remedy, commands, undo } = finding;
  const actions = useActions(finding, rom !== undefined);
  // Where a button does it, the commands are for those who look for them.
  const terminal = (
    <>
      {commands !== undefined && <Commands title={actions.length > 0 ? 'To do it:' : 'In a terminal:'} commands={commands} />}
      {undo !== undefined && <Commands title="To undo it:" commands={undo} />}
    </>
  );
  return (
    <>
      {remedy !== '' && <p>{remedy}</p>}
      <Remedies actions={actions} on={on} rom={rom} />
      {(commands !== undefined || undo !== undefined) && (actions.length > 0 ? <details className={styles.terminal}><summary>In a terminal</summary>{terminal}</details> : terminal)}
    </>
  );
}

export interface FindingsProps {
  findings: readonly Finding[];
  /** What they are about, as people call it. */
  on: string;
  rom?: RomPart;
  /** What the device is used for: the technical name stands beside the sentence that says it. */
  uses?: readonly Use[];
}

/** Whether a finding says this use already. */
export function saysUse({ code, sentence }: Finding, { kind, sentence: use }: Use): boolean {
  if (kind === 'programs') return code === 'driver-in-use';
  if (kind === 'framebuffer') return code === 'boot-framebuffer';
  return sentence.startsWith(use.replace(/\.$/, ''));
}

export function Findings({ findings, on, rom, uses = [] }: FindingsProps) {
  return (
    <ul className={styles.findings}>
      {findings.map((finding) => {
        const { code, aspect = '', severity, sentence } = finding;
        const Sign = signs[severity];
        return (
          <li key={`${code} ${aspect}`} className={styles[severity]} data-finding={code}>
            <Sign size={16} role="img" aria-label={words[severity]} />
            <div>
              <p className={styles.sentence}>{sentence}{uses.filter((use) => use.kind !== 'programs' && saysUse(finding, use)).map(({ kind, detail }) => <span key={kind}>{' '}<code>{detail}</code></span>)}</p>
              <WhatToDo finding={finding} on={on} rom={rom} />
            </div>
          </li>
        );
      })}
    </ul>
  );
}
