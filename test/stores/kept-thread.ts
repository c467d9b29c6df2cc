/** A thread that serves one connection after the other, each over a port of its own (`openOnKeptThreads`). */
import { type MessagePort, parentPort } from 'node:worker_threads'
import { serveSqlite } from '../../src/stores/sqlite/threads.js'

parentPort?.on('message', (port: MessagePort) => serveSqlite(port))
