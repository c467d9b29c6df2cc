/** What a thread for key agreement runs. A program of its own, built beside the library; nothing imports it. */
import { parentPort } from 'node:worker_threads'
import { agreementPort, serveAgreement } from './agreement.js'

if (parentPort !== null) serveAgreement(agreementPort(parentPort))
