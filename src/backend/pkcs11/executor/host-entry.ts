/**
 * What a worker thread or a child process runs: one executor, served to whoever started it. A process of its own, built
 * beside the library; nothing imports it.
 */
import { Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort } from 'node:worker_threads'
import { loaderOf } from '../binding/load.js'
import { portChannel, startFrom, streamChannel } from './channels.js'
import { serve } from './host.js'
import { InlineExecutor } from './inline.js'
import { openRemote } from './remote.js'

if (!isMainThread && parentPort !== null) {
  const port = parentPort
  serve(
    portChannel(port, () => port.close()),
    (settings, { known, alone }) =>
      InlineExecutor.open(settings, loaderOf(settings.binding), known, { alone }),
    () => port.close(),
  )
} else {
  // Ends with the descriptor, not with the terminal: a Ctrl-C is for the program that started this one.
  process.on('SIGINT', () => undefined)
  const stop = (): void => process.exit(0)
  // Its threads run this very file, whatever it is called here.
  const starter = startFrom(() => fileURLToPath(import.meta.url))
  serve(
    streamChannel(new Socket({ fd: 3, readable: true, writable: true }), stop, stop),
    (settings, { known }) => openRemote(settings, loaderOf(settings.binding), known, starter),
    stop,
  )
}
