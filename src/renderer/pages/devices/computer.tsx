// What concerns the computer as a whole, and the helper that makes changes on it: both stand above devices.
import type { Finding } from '../../../shared/host-devices.ts';
import type { Leases } from '../../../shared/passthrough.ts';
import { Commands } from '../../components/commands.tsx';
import { Notice } from '../../components/notice.tsx';
import { asSentence } from '../../state/words.ts';
import { RemedyButton } from './remedies.tsx';
import { WhatToDo } from './findings.tsx';
import styles from './devices.module.css';

const gravity = { information: 'info', care: 'care', refused: 'stop' } as const;

export function Computer({ findings }: { findings: readonly Finding[] }) {
  if (findings.length === 0) return null;
  return (
    <div className={styles.notices}>
      {findings.map((finding) => {
        const { code, aspect = '', severity, sentence } = finding;
        return (
          <div key={`${code} ${aspect}`} data-finding={code}>
            <Notice gravity={gravity[severity]} title={sentence}><WhatToDo finding={finding} on="This computer" /></Notice>
          </div>
        );
      })}
    </div>
  );
}

const titles = {
  missing: 'Vitrine’s helper is not set up',
  untrusted: 'Vitrine’s helper cannot be trusted',
  outdated: 'Vitrine’s helper is of another version',
} as const;

/** Asks for the helper where it is wanted and not there. */
export function HelperNotice({ helper }: { helper: Leases['helper'] }) {
  if (helper.state === 'installed') return null;
  return (
    <Notice gravity="care" title={titles[helper.state]}>
      <p>{helper.why === '' ? '' : `${asSentence(helper.why).replace(/\.?$/, '.')} `}It is a small program that lends devices to machines and takes them back, each time with your permission. Everything else works without it.</p>
      <div className={styles.remedies}><RemedyButton label={helper.state === 'missing' ? 'Set up the helper (asks for your password)' : 'Set the helper up anew (asks for your password)'} on="This computer" request={{ verb: 'install-helper' }} /></div>
      {helper.install.length > 0 && <Commands title="Or in a terminal:" commands={helper.install} />}
    </Notice>
  );
}
