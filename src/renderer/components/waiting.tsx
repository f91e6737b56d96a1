// A sign of waiting that keeps its space at once and shows itself only after 300 ms.
import styles from './waiting.module.css';

export function Waiting({ words }: { words: string }) {
  return (
    <span className={styles.waiting} role="status">
      <span className={styles.ring} aria-hidden />
      <span>{words}</span>
    </span>
  );
}
