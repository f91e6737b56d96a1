// The agent's program for Node in the lab: from source with the types stripped here, because under emulation stripping costs Node a
// second; or the bundle beside this code, which the lab sees at the same path.

import fs from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { fileURLToPath } from 'node:url';

export interface AgentProgram {
  /** Path in the lab. */
  entry: string;
  /** Files for the configuration's folder, which init copies to /run/lab. */
  files: Record<string, string>;
}

export function agentProgram(): AgentProgram {
  const here = new URL(import.meta.url);
  if (!here.pathname.endsWith('.ts')) return { entry: fileURLToPath(new URL('./lab-agent.js', here)), files: {} };
  const strip = (name: string): string => stripTypeScriptTypes(fs.readFileSync(new URL(`./${name}.ts`, here), 'utf8')).replaceAll("'./protocol.ts'", "'./protocol.mjs'");
  return { entry: '/run/lab/agent.mjs', files: { 'agent.mjs': strip('agent'), 'protocol.mjs': strip('protocol') } };
}
