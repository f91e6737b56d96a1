// Stands in for a machine process in the relay's test: serves its socket, answers each line in capitals, says who it is and what it may have
// of the lab's devices, ends on "quit".

import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { parseArgs } from 'node:util'

/** Whether the lab's NIC is ready for this process, and how much it may lock. */
function given() {
  const nic = '/sys/bus/pci/devices/0000:00:05.0'
  const limit = Number(/^Max locked memory +(\d+)/m.exec(fs.readFileSync('/proc/self/limits', 'utf8'))?.[1])
  try {
    fs.closeSync(fs.openSync(path.join('/dev/vfio', path.basename(fs.readlinkSync(`${nic}/iommu_group`))), 'r+'))
  } catch (error) {
    return { limit, nic: error.code }
  }
  return { limit, nic: path.basename(fs.readlinkSync(`${nic}/driver`)) }
}

const { values } = parseArgs({ options: { folder: { type: 'string' }, socket: { type: 'string' }, backend: { type: 'string' } } })
fs.writeFileSync(path.join(values.folder, 'seen-in-lab'), JSON.stringify({ backend: values.backend, euid: process.geteuid(), lab: process.env.VITRINE_IN_LAB, asked: process.env.VITRINE_ASKED, ...given() }))
net
  .createServer((socket) => {
    socket.on('data', (data) => {
      if (data.toString() === 'quit') process.exit(7)
      socket.write(data.toString().toUpperCase())
    })
  })
  .listen(values.socket)
console.log('the stand-in serves')
