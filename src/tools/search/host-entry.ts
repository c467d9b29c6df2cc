/** What a thread of the search runs. A program of its own, built beside the library; nothing imports it. */
import { parentPort } from 'node:worker_threads'
import { portOf, serveSearch } from './crew.js'

if (parentPort !== null) serveSearch(portOf(parentPort))
