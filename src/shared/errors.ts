// The one form of every error that a person or a script sees: what was attempted, on what, why it failed, what to do.

/** An error as it travels over the protocol and as it lies in a machine's outcome file. */
export interface Problem {
  /** What was attempted, as a clause: "start the machine". */
  attempted: string;
  /** On what: a machine's name, a path, a device. */
  on: string;
  /** Why it failed, in plain words. */
  why: string;
  /** What the user can do; empty when nothing can be done. */
  remedy: string;
  /** A stable word for scripts and tests: "no-kvm", "kernel-missing". */
  code: string;
}

/** Thrown wherever something fails for a reason that the user should read. */
export class VitrineError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem, options?: { cause?: unknown }) {
    super(sentence(problem), options);
    this.name = 'VitrineError';
    this.problem = problem;
  }
}

/** The problem as one paragraph: "Cannot start the machine (Try Linux): … ". */
export function sentence(problem: Problem): string {
  const on = problem.on === '' ? '' : ` (${problem.on})`;
  const remedy = problem.remedy === '' ? '' : ` ${problem.remedy}`;
  return `Cannot ${problem.attempted}${on}: ${problem.why}${remedy}`;
}

/** Any thrown value as a problem; what is no VitrineError becomes "internal" with its message. */
export function toProblem(thrown: unknown, attempted: string, on = ''): Problem {
  if (thrown instanceof VitrineError) return thrown.problem;
  const why = thrown instanceof Error ? thrown.message : String(thrown);
  return { attempted, on, why, remedy: '', code: 'internal' };
}
