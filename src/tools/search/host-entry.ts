/** What a thread of the search runs. A program of its own, built beside the library; nothing imports it. */
import { type MessagePort, parentPort } from 'node:worker_threads'
import { portOf, serveSearch } from './crew.js'

serveSearch(portOf(parentPort as MessagePort))
