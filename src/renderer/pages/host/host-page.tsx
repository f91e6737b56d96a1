// What this computer can do for machines: whether KVM works, where machines run and why, and which versions are at work.
import type { ReactNode } from 'react';
import { CircleCheck, CircleX, TriangleAlert } from 'lucide-react';
import type { Host } from '../../../shared/protocol/front.ts';
import { Notice } from '../../components/notice.tsx';
import { Waiting } from '../../components/waiting.tsx';
import { useFront } from '../../state/front.ts';
import { asSentence } from '../../state/words.ts';
import styles from './host.module.css';

type Verdict = 'ok' | 'care' | 'stop';
const signs = { ok: CircleCheck, care: TriangleAlert, stop: CircleX } as const;

function Fact({ verdict, title, children }: { verdict: Verdict; title: string; children: ReactNode }) {
  const Sign = signs[verdict];
  return (
    <li className={styles.fact}>
      <Sign size={18} className={styles[verdict]} aria-hidden />
      <div><h3>{title}</h3><p>{children}</p></div>
    </li>
  );
}

const places = { kvm: 'on this computer’s KVM', lab: 'in the lab, an emulated computer with KVM of its own' } as const;

function Facts({ host }: { host: Host }) {
  const { kvm, backend } = host;
  return (
    <ul className={styles.facts}>
      {kvm.usable
        ? <Fact verdict="ok" title="KVM works">A small guest ran on <code>/dev/kvm</code>.</Fact>
        : <Fact verdict="stop" title="KVM does not work here">{asSentence(kvm.problem?.why ?? 'a small guest did not run.')} {kvm.problem?.remedy ?? ''}</Fact>}
      {kvm.canBootLinux
        ? <Fact verdict="ok" title="KVM can run Linux">Each of the instructions that a Linux kernel needs was run.</Fact>
        : <Fact verdict={kvm.usable ? 'care' : 'stop'} title="KVM cannot run Linux here">{kvm.usable ? asSentence(kvm.problem?.why ?? 'an instruction that a Linux kernel needs did not run.') : 'Without KVM there is nothing for Linux to run on.'}</Fact>}
      <Fact verdict={backend.linux === 'kvm' ? 'ok' : 'care'} title={`Linux runs ${places[backend.linux]}`}>
        {host.forced ? 'You chose so when Vitrine was started.' : backend.linux === 'kvm' ? 'At full speed.' : 'Everything works as usual, and slower.'}
      </Fact>
      {backend.freestanding !== backend.linux && (
        <Fact verdict={backend.freestanding === 'kvm' ? 'ok' : 'care'} title={`Small guests without an operating system run ${places[backend.freestanding]}`}>
          They need fewer instructions than Linux.
        </Fact>
      )}
      <Fact verdict={host.euid === 0 ? 'care' : 'ok'} title={host.euid === 0 ? 'Vitrine runs as root' : 'Vitrine runs as an ordinary user'}>
        {host.euid === 0 ? 'Machines are safer under an ordinary user’s account.' : 'Machines have no rights beyond yours.'}
      </Fact>
    </ul>
  );
}

export function HostPage() {
  const host = useFront((front) => front.host);
  const offline = useFront((front) => front.status === 'offline');
  return (
    // It scrolls, and has nothing else that the keyboard could go to.
    <div className={styles.page} role="region" aria-label="This computer" tabIndex={0}>
      <h1>This computer</h1>
      {host === null || host.state === 'probing'
        ? <div className={styles.waiting}>{!offline && <Waiting words="Trying what KVM can do" />}</div>
        : (
          <>
            {host.why !== '' && <Notice gravity={host.backend.linux === 'lab' ? 'care' : 'info'} title={host.why} />}
            <section><h2>What it can do</h2><Facts host={host} /></section>
            <section>
              <h2>Versions and places</h2>
              <dl className={styles.table}>
                <dt>Vitrine</dt><dd>{host.versions.vitrine}</dd>
                <dt>Linux kernel</dt><dd>{host.versions.kernel}</dd>
                <dt>Node</dt><dd>{host.versions.node}</dd>
                {host.versions.electron !== undefined && <><dt>Electron</dt><dd>{host.versions.electron}</dd></>}
                <dt>Shown in</dt><dd>{host.shell === 'electron' ? 'A window of its own' : 'A browser'}</dd>
                <dt>Library</dt><dd><code>{host.library}</code></dd>
              </dl>
            </section>
          </>
        )}
    </div>
  );
}
