/** What a thread of the SQLite store runs. A program of its own, built beside the library; nothing imports it. */
import { parentPort } from 'node:worker_threads'
import { serveSqlite } from './threads.js'

if (parentPort !== null) serveSqlite(parentPort)
