/** What is said once it listens: where everything is, and lines to paste into another terminal. */
import { testCards } from './cards.js'
import type { Folder } from './folder.js'
import { D1_KEYS, ZPK } from './keys.js'
import { CLIENT } from './tokens.js'

export interface Facts {
  readonly issuerId: string
  readonly folder: Folder
  readonly url: string
  /** Where nginx is in front, which `url` is then. */
  readonly socket: string | undefined
  readonly healthUrl: string | undefined
  readonly audit: string
  /** The simulator's configuration. */
  readonly config: string
  readonly keys: string
  readonly store: string
}

/** The greeting, for a person; the lines of the commands stand alone, so that they can be copied. */
export function greeting(facts: Facts): string {
  const { folder, issuerId, url, socket, healthUrl, audit, config, keys, store } = facts
  const rows = [
    ...(socket === undefined
      ? [['listening on', `${url} (TLS with client certificates)`]]
      : [
          ['listening on', `${socket} (HTTP, for nginx alone)`],
          ['D1 calls', `${url}, which nginx answers (another: --url)`],
        ]),
    ...(healthUrl === undefined ? [] : [['health', `/livez and /readyz on ${healthUrl}`]]),
    ['keys', keys],
    ['store', store],
    ['folder', `${folder.path} (test keys, certificates, cards)`],
    ['audit', audit],
  ]
  return [
    '',
    'An issuer for D1, with test values',
    '',
    ...rows.map(([name = '', value = '']) => `  ${name.padEnd(14)}${value}`),
    '',
    'Get PIN by hand, from another terminal in the repository (card-0001 has the PIN 4711 until one is set):',
    '',
    ...pasteable(folder, url, issuerId),
    '',
    'or all calls as D1 makes them, well-behaved and not:',
    '',
    `  npm run d1-simulator -- --config ${config}`,
    '',
    'Ctrl-C stops it: what is under way is finished.',
    '',
  ].join('\n')
}

/** The token, the answer, and what opens the answer with D1's keys. */
export function pasteable(folder: Folder, url: string, issuerId: string): readonly string[] {
  const at = (name: string): string => quoted(folder.file(name))
  const curl = `curl -sS --cacert ${at('ca.pem')} --cert ${at('d1.pem')} --key ${at('d1.key')}`
  const client = `"${CLIENT.clientId}:$(cat ${at(CLIENT.secretFile)})"`
  const cli = 'npm run --silent cli --'
  const keys = `--keys ${at(D1_KEYS)}`
  const [card] = testCards(0)
  const path = `/cms/api/v1/issuers/${issuerId}/cards/${card?.cardId}/pin`
  return [
    `TOKEN=$(${curl} --user ${client} -d grant_type=client_credentials ${url}/authz/d1/v1/oauth2/token | sed 's/.*"access_token":"\\([^"]*\\).*/\\1/')`,
    `${curl} -H "Authorization: Bearer $TOKEN" ${url}${path} > ${at('answer.json')}; cat ${at('answer.json')}; echo`,
    `${cli} jwe open --key D1-JWE ${keys} --reveal ${at('answer.json')}`,
    `BLOCK=$(${cli} jwe open --key D1-JWE ${keys} --reveal ${at('answer.json')} | grep -o '[0-9A-Fa-f]\\{16\\}' | head -1)`,
    `echo $BLOCK | PAN=${card?.pan} ${cli} pin decipher --key ${ZPK.kid} --format 0 --pan-env PAN ${keys} --reveal`,
  ]
}

function quoted(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`
}
