// Stands in for a machine process in the relay's test: serves its socket, answers each line in capitals, says who it is, ends on "quit".

import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { parseArgs } from 'node:util'

const { values } = parseArgs({ options: { folder: { type: 'string' }, socket: { type: 'string' }, backend: { type: 'string' } } })
fs.writeFileSync(path.join(values.folder, 'seen-in-lab'), JSON.stringify({ backend: values.backend, euid: process.geteuid(), lab: process.env.VITRINE_IN_LAB, asked: process.env.VITRINE_ASKED }))
net
  .createServer((socket) => {
    socket.on('data', (data) => {
      if (data.toString() === 'quit') process.exit(7)
      socket.write(data.toString().toUpperCase())
    })
  })
  .listen(values.socket)
console.log('the stand-in serves')
