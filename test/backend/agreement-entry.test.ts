/** The file that a thread for key agreement runs: it serves its parent, and is nothing where there is none. */
import { MessageChannel } from 'node:worker_threads'
import { afterEach, expect, test, vi } from 'vitest'

afterEach(() => {
  vi.doUnmock('node:worker_threads')
  vi.resetModules()
})

test.each([true, false])('with a parent: %s', async hasParent => {
  const { port1, port2 } = new MessageChannel()
  const threads = await vi.importActual<object>('node:worker_threads')
  vi.doMock('node:worker_threads', () => ({ ...threads, parentPort: hasParent ? port1 : null }))
  vi.resetModules()
  await import('../../src/backend/software/agreement-entry.js')
  expect(port1.listenerCount('message')).toBe(hasParent ? 1 : 0)
  port1.close()
  port2.close()
})
