// The environment that machine processes get: what they need and nothing that could change how they run. Electron sets variables of its
// own, a terminal may hold NODE_OPTIONS or a debugger's, and a machine outlives whoever started it.

const KEPT = new Set(['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'LANG', 'LANGUAGE', 'TZ', 'TMPDIR', 'LD_LIBRARY_PATH']);
const KEPT_PREFIXES = ['LC_', 'XDG_', 'VITRINE_'];

export function cleanEnvironment(env: NodeJS.ProcessEnv): Record<string, string> {
  const clean: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && (KEPT.has(name) || KEPT_PREFIXES.some((prefix) => name.startsWith(prefix)))) clean[name] = value;
  }
  return clean;
}
