// The keyboard's ways, in one place: the dialog behind “?” shows this list, and the shortcuts that listen are beside it.
import { Button } from '../components/button.tsx';
import { Dialog } from '../components/dialog.tsx';
import styles from './dialogs.module.css';

const groups: Array<{ title: string; keys: Array<[what: string, keys: string[]]> }> = [
  {
    title: 'In the library',
    keys: [
      ['Go from machine to machine', ['Arrow keys']],
      ['Open the chosen machine', ['Enter']],
      ['Search machines', ['/']],
      ['New machine', ['N']],
    ],
  },
  {
    title: 'With a machine',
    keys: [
      ['Give keyboard and pointer to the guest', ['Enter', 'click']],
      ['Take them back', ['Ctrl+Alt']],
      ['Screen, console, log, devices', ['Alt+1', 'Alt+2', 'Alt+3', 'Alt+4']],
      ['Full screen', ['F11']],
      ['Save a screenshot', ['Ctrl+Shift+S']],
      ['Copy from the console', ['Ctrl+Shift+C']],
      ['Back to the machines', ['Esc']],
    ],
  },
  { title: 'Everywhere', keys: [['These shortcuts', ['?']]] },
];

export function Shortcuts({ onClose }: { onClose: () => void }) {
  return (
    <Dialog
      title="Keyboard shortcuts" small onClose={onClose}
      lede="While a guest has the keyboard, every key is the guest’s, Ctrl+Alt alone excepted."
      foot={<Button autoFocus onPress={onClose}>Close</Button>}
    >
      <div className={styles.keys}>
        {groups.map(({ title, keys }) => (
          <section key={title}>
            <h3>{title}</h3>
            <dl>
              {keys.map(([what, names]) => [
                <dt key={what}>{what}</dt>,
                <dd key={`${what} keys`}>{names.map((name) => <kbd key={name}>{name}</kbd>)}</dd>,
              ])}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}
