/** `token`: what a PKCS#11 token can do, as the library found it at open. */
import type { Capabilities, Health } from '../backend/driver.js'
import { pkcs11Backend } from '../pkcs11.js'
import { renderTable } from '../tools/inspect/table.js'
import { type Command, type Io, readArguments, requireOption, takeSecret, UsageError } from './command.js'

const OPTIONS = {
  module: { type: 'string' },
  token: { type: 'string' },
  'pin-env': { type: 'string' },
  'composed-mac': { type: 'boolean' },
  'translate-in-token': { type: 'boolean' },
  'extract-shared-secret': { type: 'boolean' },
} as const

/** How the command opens a token; `pkcs11Backend`, or what a test has in its place. */
type OpenToken = typeof pkcs11Backend

async function readPin(variable: string | undefined, io: Io): Promise<string> {
  if (variable !== undefined) {
    const pin = takeSecret(io, variable)
    if (pin === undefined || pin === '')
      throw new UsageError('--pin-env: there is no such variable in the environment')
    return pin
  }
  const pin = await io.askSecret('token PIN: ')
  if (pin === undefined)
    throw new UsageError('there is no terminal to ask for the PIN: name a variable with --pin-env')
  return pin
}

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
export function tokenCommand(open: OpenToken = pkcs11Backend): Command {
  return {
    name: 'token',
    summary: 'open a PKCS#11 token and say what it can do',
    help: `usage: issuer-pin-crypto token --module LIBRARY --token LABEL [--pin-env NAME] [opt-ins]

Opens the token, runs the known answers, and shows capabilities and health. Needs pkcs11js. Exit code 1 where the
token is not well.

  --module                 absolute path of the vendor's PKCS#11 library
  --token                  label of the token, or a pkcs11: URI
  --pin-env                the environment variable with the user PIN; without it, it is asked for, without echo
  --composed-mac           as the options of pkcs11Backend by these names:
  --translate-in-token     what they allow, and what it costs, stands in the
  --extract-shared-secret  README under «Tokens»`,
    run: async (args, io) => {
      const { values } = readArguments(args, { options: OPTIONS, positionals: 0 })
      const module = requireOption(values.module, 'module')
      const token = requireOption(values.token, 'token')
      const pin = await readPin(values['pin-env'], io)
      await using backend = await open({
        module,
        token,
        pin: () => pin,
        composedMac: values['composed-mac'] ?? false,
        translateInToken: values['translate-in-token'] ?? false,
        extractSharedSecret: values['extract-shared-secret'] ?? false,
      })
      const health = await backend.health()
      io.out(renderTable(['', 'found', 'remark'], rowsOf(backend.capabilities(), health)))
      return health.ok ? 0 : 1
    },
  }
}
