/** Bearer tokens that are none of the issuer's, or no longer, or not quite. */
import { createHmac } from 'node:crypto'
import { type Case, outside, refusal } from './case.js'
import { requestText } from './cases-connection.js'
import { otherCharacter } from './jwe.js'
import { NotRun } from './problems.js'
import type { World } from './world.js'

const RULE = { operation: 'getPIN', statuses: [401] } as const

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')

/** Header and claims of the issuer's token where it is a JWT; something alike where it is not. */
function claimsOf(token: string): { readonly header: object; readonly claims: object } {
  try {
    const [header, claims] = token
      .split('.', 2)
      .map(text => JSON.parse(Buffer.from(text, 'base64url').toString()))
    return { header, claims }
  } catch {
    const iat = Math.floor(Date.now() / 1000)
    return { header: { alg: 'HS256', typ: 'at+jwt' }, claims: { sub: 'd1', iat, exp: iat + 600 } }
  }
}

function signed(header: object, claims: object): string {
  const text = `${part(header)}.${part(claims)}`
  return `${text}.${createHmac('sha256', 'another key').update(text).digest('base64url')}`
}

/** The last character of a base64url signature may have unused bits, so the first is changed. */
function withoutTrust(token: string): string {
  const at = token.lastIndexOf('.') + 1
  return `${token.slice(0, at)}${otherCharacter(token.charAt(at))}${token.slice(at + 1)}`
}

const later = (claims: object): object => ({ ...claims, exp: Math.floor(Date.now() / 1000) + 86_400 })

const TOKENS: Readonly<Record<string, (token: string) => string>> = {
  'no token at all': () => '',
  'a token that is none': () => 'Bearer x',
  'another scheme': token => `Basic ${token}`,
  'two tokens': token => `Bearer ${token} ${token}`,
  'alg none': token => {
    const { header, claims } = claimsOf(token)
    return `Bearer ${part({ ...header, alg: 'none' })}.${part(later(claims))}.`
  },
  'alg none, in capitals': token => {
    const { header, claims } = claimsOf(token)
    return `Bearer ${part({ ...header, alg: 'NONE' })}.${part(later(claims))}.`
  },
  'a signature cut off': token => `Bearer ${token.slice(0, token.lastIndexOf('.') + 1)}`,
  'a signature changed': token => `Bearer ${withoutTrust(token)}`,
  'a foreign key by the known kid': token => {
    const { header, claims } = claimsOf(token)
    return `Bearer ${signed({ ...header, alg: 'HS256' }, later(claims))}`
  },
  'a foreign token': () => {
    const iat = Math.floor(Date.now() / 1000)
    const claims = {
      iss: 'https://elsewhere.example',
      sub: 'd1',
      aud: 'https://elsewhere.example',
      iat,
      exp: iat + 600,
    }
    return `Bearer ${signed({ alg: 'HS256', typ: 'JWT', kid: 'x' }, claims)}`
  },
  'claims changed': token => {
    const [header = '', , signature = ''] = token.split('.')
    return `Bearer ${header}.${part(later(claimsOf(token).claims))}.${signature}`
  },
  'a token of 7,000 characters': token => `Bearer ${token}${'x'.repeat(7000)}`,
}

async function showWith(world: World, authorization: string) {
  world.requireClient()
  const { cardId } = world.card('active')
  return world.wire.ask(world.pinUrl(cardId), { headers: authorization === '' ? {} : { authorization } })
}

const refusals = Object.entries(TOKENS).map(([name, make]) =>
  refusal('authorization', name, RULE, async world => {
    world.requireClient()
    return showWith(world, make(await world.token()))
  }),
)

export const AUTHORIZATION_CASES: readonly Case[] = [
  ...refusals,
  refusal('authorization', 'an expired token', RULE, world => {
    world.requireClient()
    const { token } = world.setup.expired
    if (token === undefined) throw new NotRun('the configuration has no expired token')
    return showWith(world, `Bearer ${token}`)
  }),
  refusal('authorization', 'no token, for a card that does not exist', RULE, world => {
    world.requireClient()
    return world.wire.ask(world.pinUrl(world.absent()))
  }),
  refusal('authorization', 'no token, Set PIN', { ...RULE, operation: 'SetPIN' }, world => {
    world.requireClient()
    const { cardId } = world.card('active')
    const headers = { 'content-type': 'application/json' }
    return world.wire.ask(world.pinUrl(cardId), { method: 'PUT', headers, body: '{}' })
  }),
  outside('authorization', 'the token in the query', { statuses: [400, 401], closed: false }, async world => {
    world.requireClient()
    const { cardId } = world.card('active')
    return world.wire.ask(`${world.pinUrl(cardId)}?access_token=${await world.token()}`)
  }),
  outside('authorization', 'two headers, both good', { statuses: [400, 401], closed: true }, async world => {
    world.requireClient()
    const { pathname } = new URL(world.pinUrl(world.card('active').cardId))
    const authorization = `Bearer ${await world.token()}`
    const twice = { Authorization: authorization, authorization }
    return world.wire.raw(requestText(world, `GET ${pathname}`, twice))
  }),
]
