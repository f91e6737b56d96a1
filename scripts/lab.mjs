// Entry of `npm run lab -- CMD…`: prepares the lab, then hands over to lab/cli.ts under the project's pinned Node 24.
// Needs nothing but Node 20.

import { spawn } from 'node:child_process'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { prepareLab } from './setup/lab.mjs'

const here = path.dirname(fileURLToPath(import.meta.url))
try {
  await prepareLab({ log: (line) => console.error(`lab: ${line}`) })
} catch (error) {
  console.error(`lab: ${error.message}`)
  process.exit(125)
}
// npm runs scripts in the package's folder and says in INIT_CWD where the user is
const cwd = process.env.INIT_CWD ?? process.cwd()
const child = spawn(path.join(here, 'node24'), [path.join(here, '..', 'lab', 'cli.ts'), ...process.argv.slice(2)], { cwd, stdio: 'inherit' })
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
child.on('error', (error) => {
  console.error(`lab: the project's Node 24 does not start (${error.message}). Run: npm ci`)
  process.exit(125)
})
child.on('exit', (code) => process.exit(code ?? 125))
