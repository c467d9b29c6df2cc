/**
 * The other end of a channel as a program of its own, in JavaScript that a thread and a process can start: it asks for the PIN,
 * says what it is told, echoes jobs, and goes when it is told to.
 */
import { Socket } from 'node:net'
import { deserialize, serialize } from 'node:v8'
import { isMainThread, parentPort } from 'node:worker_threads'

function channel() {
  if (!isMainThread) {
    const listen = receive => parentPort.on('message', receive)
    return { send: message => parentPort.postMessage(message), listen }
  }
  const stream = new Socket({ fd: 3, readable: true, writable: true })
  const send = message => {
    const body = serialize(message)
    const head = Buffer.alloc(4)
    head.writeUInt32BE(body.length)
    stream.write(Buffer.concat([head, body]))
  }
  const listen = receive => {
    let held = Buffer.alloc(0)
    stream.on('data', chunk => {
      held = Buffer.concat([held, chunk])
      while (held.length >= 4 && held.length >= 4 + held.readUInt32BE()) {
        const end = 4 + held.readUInt32BE()
        receive(deserialize(held.subarray(4, end)))
        held = held.subarray(end)
      }
    })
    stream.on('close', () => process.exit(0))
  }
  return { send, listen }
}

const { send, listen } = channel()
let opening
listen(message => {
  if (message.pin === 'given') {
    send({
      id: opening,
      value: {
        pool: process.env.UV_THREADPOOL_SIZE,
        told: message.value,
        home: process.env.HOME,
      },
    })
    return
  }
  if (message.call === 'open') {
    opening = message.id
    send({ pin: 'ask' })
  } else if (message.name === 'health') process.exit(3)
  else if (message.call === 'perform') send({ id: message.id, value: message.job.blocks })
  else send({ id: message.id, value: undefined })
})
