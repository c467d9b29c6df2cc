/** `token`: what a PKCS#11 token, or a group of them, can do, as the library found it at open. */
import type { Capabilities, Health } from '../backend/driver.js'
import { type Command, readArguments } from './command.js'
import { OPENING, type Opening, TOKEN_HELP, TOKEN_OPTIONS, withBackend } from './open.js'
import { show, tableOf } from './shown.js'
import type { Values } from './verbs.js'

function rowsOf(capabilities: Capabilities, health: Health): string[][] {
  const { backend, tdea, macs, keyAgreement, signing, reencipher, random, notes } = capabilities
  return [
    ['health', health.ok ? 'ok' : 'NOT ok', health.detail],
    ['backend', backend, ''],
    ['TDEA', tdea, ''],
    ...Object.entries(macs).map(([name, plan]) => [`MAC ${name}`, plan, '']),
    ['key agreement', keyAgreement, ''],
    ['signing (ES256)', signing, ''],
    ['re-encipherment', reencipher, ''],
    ['random', random, ''],
    ...notes.map(note => ['note', '', note]),
  ]
}

/** `issuer-pin-crypto token`, over some way to open one. */
export function tokenCommand(opening: Opening = OPENING): Command {
  return {
    name: 'token',
    summary: 'open a PKCS#11 token, or a group of them, and say what it can do',
    help: `usage: issuer-pin-crypto token --module LIBRARY --token LABEL [options]

Opens the token, runs the known answers, and shows capabilities and health. Needs
pkcs11js or koffi. Exit code 1 where the token is not well. What each opt-in
allows, and what it costs: docs/tokens.md.

${TOKEN_HELP}`,
    run: async (args, io) => {
      const values = readArguments(args, { options: TOKEN_OPTIONS, positionals: 0 }).values as Values
      return withBackend(values, io, opening, async backend => {
        const [capabilities, health] = [backend.capabilities(), await backend.health()]
        const table = tableOf(['', 'found', 'remark'], rowsOf(capabilities, health), io)
        show(values, io, { capabilities, health }, table)
        return health.ok ? 0 : 1
      })
    },
  }
}
