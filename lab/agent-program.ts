// The agent as files that Node in the lab runs as they are: from source with the types stripped here, because under emulation
// stripping costs Node a second; or the bundle that the build has put beside this code.

import fs from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';

/** File name → content. The first is the entry, agent.mjs. */
export function agentProgram(): Record<string, string> {
  const here = new URL(import.meta.url);
  if (!here.pathname.endsWith('.ts')) return { 'agent.mjs': fs.readFileSync(new URL('./lab-agent.js', here), 'utf8') };
  const strip = (name: string): string => stripTypeScriptTypes(fs.readFileSync(new URL(`./${name}.ts`, here), 'utf8')).replaceAll("'./protocol.ts'", "'./protocol.mjs'");
  return { 'agent.mjs': strip('agent'), 'protocol.mjs': strip('protocol') };
}
