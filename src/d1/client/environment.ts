/** What a client is configured with: where D1 is, what a base URL of one's own must look like, and who the issuer is. */
import { readOptions } from '../../base/arguments.js'
import { ArgumentError } from '../../base/errors.js'
import { ISSUER_ID, type TextRule } from '../contract.js'

/** D1's environments by their published names. */
export type D1Environment = 'production' | 'staging' | 'develop'

/** Base URLs, prefixes included: `…/banking` and `…/authz/v1` at D1 itself. For a gateway, a simulator, a test. */
export interface D1BaseUrls {
  readonly api: string
  readonly auth: string
}

const HOSTS: Readonly<Record<D1Environment, string>> = {
  production: 'https://api.d1.thalescloud.io',
  staging: 'https://api.d1-stg.thalescloud.io',
  develop: 'https://develop-api.d1-dev.thalescloud.io',
}
const API_PREFIX = '/banking'
const AUTH_PREFIX = '/authz/v1'

const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/

/**
 * The base URLs of an environment, without a slash at the end. URLs of one's own must be https without user, query or
 * fragment; http is accepted for a loopback host where `allowInsecureLoopback` is true.
 *
 * Errors: `ERR_ARGUMENT`, which names the URL and does not show it. Source: D1 OAuth API 1.0 and Inbound Card API 2.0,
 * servers.
 *
 * @example
 * ```ts
 * baseUrls('staging') // { api: 'https://api.d1-stg.thalescloud.io/banking', auth: 'https://api.d1-…/authz/v1' }
 * ```
 */
export function baseUrls(
  environment: D1Environment | D1BaseUrls,
  options: { readonly allowInsecureLoopback?: boolean | undefined } = {},
): D1BaseUrls {
  if (typeof environment === 'string') {
    if (!Object.hasOwn(HOSTS, environment)) {
      throw new ArgumentError(`environment must be ${Object.keys(HOSTS).join(', ')} or { api, auth }`)
    }
    const host = HOSTS[environment]
    return { api: host + API_PREFIX, auth: host + AUTH_PREFIX }
  }
  const { api, auth } = readOptions(environment, 'environment', ['api', 'auth'])
  const insecure = options.allowInsecureLoopback === true
  return { api: baseUrl(api, 'environment.api', insecure), auth: baseUrl(auth, 'environment.auth', insecure) }
}

function baseUrl(text: string, name: string, allowInsecureLoopback: boolean): string {
  if (typeof text !== 'string' || !URL.canParse(text)) {
    throw new ArgumentError(`${name} must be an absolute URL`)
  }
  const url = new URL(text)
  const insecure = url.protocol === 'http:' && LOOPBACK.test(url.hostname) && allowInsecureLoopback
  if (url.protocol !== 'https:' && !insecure) {
    throw new ArgumentError(`${name} must be https (or http to a loopback host, with allowInsecureLoopback)`)
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new ArgumentError(`${name} must have no user, query or fragment`)
  }
  return url.origin + url.pathname.replace(/\/+$/, '')
}

/** The names of a configuration. */
type ConfiguredName = 'issuerId' | 'aggregatorId' | 'issuer' | 'audience'

const CONFIGURED: Readonly<Record<ConfiguredName, TextRule>> = {
  issuerId: ISSUER_ID,
  // Nothing is published about these.
  aggregatorId: { test: /^[\x21-\x7e]{1,128}$/, shape: '1 to 128 printable ASCII characters' },
  issuer: { test: /^[\x21-\x7e]{1,128}$/, shape: '1 to 128 printable ASCII characters' },
  audience: { test: /^[\x21-\x7e]{1,512}$/, shape: '1 to 512 printable ASCII characters' },
}

/** An identifier that belongs to the configuration: `ERR_ARGUMENT` where it does not fit. */
export function requireText(name: ConfiguredName, value: unknown): asserts value is string {
  const { test, shape } = CONFIGURED[name]
  if (typeof value !== 'string' || !test.test(value)) throw new ArgumentError(`${name} must be ${shape}`)
}
