import { describe, expect, test } from 'vitest'
import { baseUrls } from '../../../src/d1/client/environment.js'
import { failure } from '../../support/errors.js'

const SECRET = 'hunter2'

describe('base URLs that are refused', () => {
  test.each([
    'http://localhost:8080/banking',
    'http://d1.example/banking',
    'ftp://localhost/banking',
    'file:///etc/passwd',
    '//localhost/banking',
    'localhost',
    '',
    `https://user:${SECRET}@d1.example/banking`,
    `https://${SECRET}@d1.example/banking`,
    `https://d1.example/banking?key=${SECRET}`,
    `https://d1.example/banking#${SECRET}`,
    undefined,
    7,
  ])('%j is ERR_ARGUMENT, naming the member and not the value', async url => {
    const good = 'https://d1.example/x'
    for (const environment of [
      { api: url, auth: good },
      { api: good, auth: url },
    ]) {
      const error = await failure(() => baseUrls(environment as never), 'ERR_ARGUMENT', [SECRET])
      expect(error.message).toContain(environment.api === url ? 'environment.api' : 'environment.auth')
    }
  })

  test.each([
    'http://192.168.0.1/',
    'http://127.0.0.1.evil.example/',
    'http://localhost.evil.example/',
    'http://[::2]/',
  ])('http to %s is refused although loopback is allowed', async url => {
    const call = () => baseUrls({ api: url, auth: url }, { allowInsecureLoopback: true })
    await failure(call, 'ERR_ARGUMENT')
  })

  test.each(['prod', 'constructor', 'toString', '', undefined, null, 7])('the environment %j', async name => {
    await failure(() => baseUrls(name as never), 'ERR_ARGUMENT')
  })

  test('a misspelt member', async () => {
    await failure(() => baseUrls({ api: 'https://a', auth: 'https://a', apl: 1 } as never), 'ERR_ARGUMENT')
  })
})

test.each([
  ['production', 'https://api.d1.thalescloud.io'],
  ['staging', 'https://api.d1-stg.thalescloud.io'],
  ['develop', 'https://develop-api.d1-dev.thalescloud.io'],
] as const)('%s', (environment, host) => {
  expect(baseUrls(environment)).toEqual({ api: `${host}/banking`, auth: `${host}/authz/v1` })
})

test.each(['http://localhost:8080', 'http://127.0.0.1', 'http://127.1.2.3:1', 'http://[::1]:9'])(
  '%s is accepted where it is allowed by name',
  url => {
    expect(baseUrls({ api: `${url}/banking//`, auth: url }, { allowInsecureLoopback: true })).toEqual({
      api: `${url}/banking`,
      auth: url,
    })
  },
)
