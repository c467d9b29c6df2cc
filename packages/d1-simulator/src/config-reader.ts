/** From a document to a {@link SimulatorConfig}: shapes and what they say of one another. No file. */
import type { CardConfig, SharedKeyConfig, SimulatorConfig } from './config.js'
import { requireMembers } from './members.js'
import { ConfigError } from './problems.js'
import {
  type Entry,
  readChoice,
  readInteger,
  readList,
  readMembers,
  readText,
  type TextRule,
} from './reader.js'

const HTTPS: TextRule = {
  test: /^https:\/\/[A-Za-z0-9.[\]:-]+(?:\/[A-Za-z0-9._~/-]*)?$/,
  shape: 'an https address without query',
}
const ISSUER_ID: TextRule = {
  test: /^[A-Za-z0-9._~-]{10}$/,
  shape: '10 characters: letters, digits, . _ ~ -',
}
const CARD_ID: TextRule = { test: /^[A-Za-z0-9_-]{1,48}$/, shape: '1 to 48 letters, digits, _ or -' }
const KID: TextRule = { test: /^[\x20-\x7e]{1,128}$/, shape: '1 to 128 printable characters' }
const CLIENT_ID: TextRule = {
  test: /^[\x21-\x39\x3b-\x7e]{1,256}$/,
  shape: 'printable characters without colon',
}
const PAN: TextRule = { test: /^[0-9]{12,19}$/, shape: '12 to 19 digits' }
const PIN: TextRule = { test: /^[0-9]{4,12}$/, shape: '4 to 12 digits' }
const PCC: TextRule = { test: /^[0-9]{4}$/, shape: '4 digits' }
const INTDATAG: TextRule = { test: /^[\x20-\x7e]{20}$/, shape: '20 printable characters' }
const LONGEST_TIMEOUT = 600_000

/** Reads a configuration. Errors: `ERR_CONFIG`, naming the entry by its JSON pointer. */
export function readConfig(document: unknown): SimulatorConfig {
  requireMembers(document)
  const root = readMembers(
    { value: document, path: '' },
    ['url', 'issuerId', 'tls', 'issuerJwkFile', 'd1JwkFile', 'zpk', 'cards'],
    ['tokenUrl', 'client', 'seccos', 'other', 'expired', 'timeouts'],
  )
  const tls = readMembers(root.tls, ['cert', 'key', 'ca'])
  const config: SimulatorConfig = {
    url: readText(root.url, HTTPS).replace(/\/+$/, ''),
    issuerId: readText(root.issuerId, ISSUER_ID),
    ...(root.tokenUrl && { tokenUrl: readText(root.tokenUrl, HTTPS) }),
    ...(root.client && { client: readClient(root.client) }),
    tls: { cert: readText(tls.cert), key: readText(tls.key), ca: readText(tls.ca) },
    issuerJwkFile: readText(root.issuerJwkFile),
    d1JwkFile: readText(root.d1JwkFile),
    zpk: readSharedKey(root.zpk),
    ...(root.seccos && { seccos: readSeccos(root.seccos) }),
    ...(root.other && { other: readOther(root.other) }),
    ...(root.expired && { expired: readExpired(root.expired) }),
    cards: readList(root.cards).map(readCard),
    ...(root.timeouts && { timeouts: readTimeouts(root.timeouts) }),
  }
  requireConsistent(config)
  return config
}

function readClient(entry: Entry): NonNullable<SimulatorConfig['client']> {
  const { id, secretFile } = readMembers(entry, ['id', 'secretFile'])
  return { id: readText(id, CLIENT_ID), secretFile: readText(secretFile) }
}

function readSharedKey(entry: Entry): SharedKeyConfig {
  const { kid, file } = readMembers(entry, ['kid', 'file'])
  return { kid: readText(kid, KID), file: readText(file) }
}

function readSeccos(entry: Entry): NonNullable<SimulatorConfig['seccos']> {
  const { profileFile, mac, prw } = readMembers(entry, ['profileFile', 'mac', 'prw'])
  return { profileFile: readText(profileFile), mac: readSharedKey(mac), prw: readSharedKey(prw) }
}

function readOther(entry: Entry): NonNullable<SimulatorConfig['other']> {
  const { cert, key, tokenFile } = readMembers(entry, ['cert', 'key'], ['tokenFile'])
  return {
    cert: readText(cert),
    key: readText(key),
    ...(tokenFile && { tokenFile: readText(tokenFile) }),
  }
}

function readExpired(entry: Entry): NonNullable<SimulatorConfig['expired']> {
  const { tokenFile, counter } = readMembers(entry, [], ['tokenFile', 'counter'])
  const members = counter && readMembers(counter, ['cardId', 'pcc', 'intdatag'])
  return {
    ...(tokenFile && { tokenFile: readText(tokenFile) }),
    ...(members && {
      counter: {
        cardId: readText(members.cardId, CARD_ID),
        pcc: readText(members.pcc, PCC),
        intdatag: readText(members.intdatag, INTDATAG),
      },
    }),
  }
}

function readCard(entry: Entry): CardConfig {
  const members = readMembers(entry, ['cardId', 'state'], ['pan', 'setPinTypes', 'pin', 'fields'])
  const { pan, setPinTypes, pin, fields } = members
  const cardId = readText(members.cardId, CARD_ID)
  const state = readChoice(members.state, ['active', 'pin-change-forbidden', 'not-active', 'absent'])
  if (state !== 'absent' && (pan === undefined || setPinTypes === undefined)) {
    throw new ConfigError(`${entry.path} must have pan and setPinTypes`)
  }
  return {
    cardId,
    state,
    ...(pan && { pan: readText(pan, PAN) }),
    ...(setPinTypes && {
      setPinTypes: readList(setPinTypes).map(type => readChoice(type, ['ISO0', '3DES_SECCOS'])),
    }),
    ...(pin && { pin: readText(pin, PIN) }),
    ...(fields && { fields: readFields(fields) }),
  }
}

function readFields(entry: Entry): Readonly<Record<string, string>> {
  const { value } = entry
  const names = typeof value === 'object' && value !== null ? Object.keys(value) : []
  const members = Object.entries(readMembers(entry, names))
  return Object.fromEntries(members.map(([name, member]) => [name, readText(member)]))
}

function readTimeouts(entry: Entry): NonNullable<SimulatorConfig['timeouts']> {
  const { requestMs, slowBodyMs } = readMembers(entry, [], ['requestMs', 'slowBodyMs'])
  return {
    ...(requestMs && { requestMs: readInteger(requestMs, 1, LONGEST_TIMEOUT) }),
    ...(slowBodyMs && { slowBodyMs: readInteger(slowBodyMs, 1, LONGEST_TIMEOUT) }),
  }
}

function requireConsistent({ cards, expired, seccos }: SimulatorConfig): void {
  if (new Set(cards.map(card => card.cardId)).size !== cards.length) {
    throw new ConfigError('/cards must name each cardId once')
  }
  if (expired?.counter === undefined) return
  const { cardId } = expired.counter
  const card = cards.find(candidate => candidate.cardId === cardId)
  if (seccos === undefined || card?.state !== 'active' || !card.setPinTypes?.includes('3DES_SECCOS')) {
    throw new ConfigError('/expired/counter/cardId must be an active 3DES_SECCOS card, and /seccos be there')
  }
}
