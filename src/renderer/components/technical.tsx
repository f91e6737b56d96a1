// A sentence with technical names between backquotes, which stand in monospace.
import { technicalParts } from '../state/give-words.ts';

export function Technical({ children }: { children: string }) {
  return <>{technicalParts(children).map(({ text, technical }, at) => (technical ? <code key={at}>{text}</code> : <span key={at}>{text}</span>))}</>;
}
