// What is asked of the process that reads devices (main.ts), beside where it runs.
import type { ForMachine } from '../../shared/host-devices.ts';
import type { Claim } from './findings/finding.ts';

export interface Question {
  claims: Claim[];
  /** Judges for this machine. */
  machine?: ForMachine;
}
