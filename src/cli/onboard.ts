/**
 * `onboard`: the folder that an issuer hands to Thales: the TLS client certificate's request, the JWE public key as JWK, PEM and
 * certificate, the assertion key, check values, the endpoint's address, and the open questions as a form. X.509 is `@peculiar/x509`'s.
 */
import { createPrivateKey, createPublicKey, type JsonWebKey, webcrypto } from 'node:crypto'
import { mkdirSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Key, operationsOf } from '../backend/key.js'
import { ownCopy } from '../base/bytes.js'
import { ISSUER_ID } from '../d1/contract.js'
import { type CheckValue, keyCheckValue, type P256PublicJwk } from '../index.js'
import { thumbprintOf } from '../key/check-value.js'
import type { KeyStore, Pkcs11Options } from '../pkcs11.js'
import { softwareBackend } from '../software.js'
import { type Command, type ExitCode, type Io, readArguments, UsageError } from './command.js'
import {
  namesToken,
  OPENING,
  type Opening,
  requireOnePlace,
  SOURCE_HELP,
  SOURCE_OPTIONS,
  testKeys,
  tokenOptions,
} from './open.js'
import { show } from './shown.js'
import { need, oneOf, optionsOf, text, type Values } from './verbs.js'

const DAYS = 730

/** The P-256 keys of an issuer, bound, and the private JWKs where they are in software. */
interface IssuerKeys {
  readonly jwe: Key
  readonly assertion: Key
  /** The TLS client key, where it is in the token. */
  readonly client: Key | undefined
  /** How the token is opened, without its PIN, where the keys are in one. */
  readonly token: Omit<Pkcs11Options, 'pin'> | undefined
  readonly private: readonly { readonly kid: string; readonly usage: string; readonly jwk: JsonWebKey }[]
  readonly checkValues: readonly {
    readonly kid: string
    readonly usage: string
    readonly checkValue: CheckValue
  }[]
}

/** A folder that was empty or new: what is written into it, and how it becomes again what it was. */
interface NewFolder {
  readonly write: (name: string, content: string, secret?: 'secret') => void
  readonly undo: () => void
}

/** An empty folder of ours, for its owner alone; a folder that holds anything is left alone. */
function openFolder(path: string): NewFolder {
  let isNew = false
  try {
    isNew = makeFolder(path)
    if (readdirSync(path).length > 0)
      throw new UsageError('--dir is a folder with files in it: name an empty or a new one')
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new UsageError(`--dir cannot be made: ${String((error as NodeJS.ErrnoException).code)}`)
  }
  const made: string[] = []
  return {
    write: (name, content, secret) => {
      const file = join(path, name)
      made.push(file)
      writeFileSync(file, content, { mode: secret === undefined ? 0o644 : 0o600, flag: 'wx' })
    },
    undo: () => {
      for (const file of made) rmSync(file, { force: true })
      if (isNew) rmdirSync(path)
    },
  }
}

/** One folder, in one that is there; whether it is new. */
function makeFolder(path: string): boolean {
  try {
    mkdirSync(path, { mode: 0o700 })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    return false
  }
}

/** A P-256 pair for tests, as a private JWK. */
export async function newPair(): Promise<JsonWebKey> {
  const pair = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
    'sign',
    'verify',
  ])
  const { kty, crv, x, y, d } = await webcrypto.subtle.exportKey('jwk', pair.privateKey)
  return { kty, crv, x, y, d } as JsonWebKey
}

/** Hands over the two keys, made here for tests, or by the token. */
async function withKeys(
  values: Values,
  io: Io,
  opening: Opening,
  use: (keys: IssuerKeys) => Promise<ExitCode>,
): Promise<ExitCode> {
  const jweKid = text(values, 'jwe-kid') ?? 'ISSUER-JWE'
  const assertionKid = text(values, 'assertion-kid') ?? 'ISSUER-ASSERTION'
  const clientKid =
    values['client-key'] === 'token' ? (text(values, 'client-kid') ?? 'ISSUER-TLS') : undefined
  if (new Set([jweKid, assertionKid, clientKid]).size < 3)
    throw new UsageError(
      '--jwe-kid, --assertion-kid and --client-kid are keys of their own: name them differently',
    )
  if (!namesToken(values)) {
    const made = [
      { kid: jweKid, usage: 'jwe-key-agreement', jwk: await newPair() },
      { kid: assertionKid, usage: 'jwt-signing', jwk: await newPair() },
    ] as const
    const given = testKeys(values, io)
    const checkValues = []
    for (const { kid, usage, algorithm, material } of given) {
      if (algorithm === 'ec-p256') continue
      checkValues.push({ kid, usage, checkValue: (await keyCheckValue({ material, algorithm })).checkValue })
    }
    await using backend = await softwareBackend({
      keys: made.map(({ kid, usage, jwk }) => ({
        kid,
        usage,
        algorithm: 'ec-p256',
        material: jwk as object,
      })),
    })
    return await use({
      jwe: await backend.bind({ kid: jweKid, usage: 'jwe-key-agreement' }),
      assertion: await backend.bind({ kid: assertionKid, usage: 'jwt-signing' }),
      client: undefined,
      token: undefined,
      private: made,
      checkValues,
    })
  }
  const options = await tokenOptions(values, io)
  const checkValues = []
  {
    await using store: KeyStore = await opening.store(options)
    const listed = await store.listKeys()
    for (const { kid, usage, checkValue } of listed)
      if (usage !== undefined && checkValue !== undefined && checkValue.method !== 'jwk-thumbprint')
        checkValues.push({ kid, usage, checkValue })
    const has = (kid: string): boolean => listed.some(key => key.kid === kid)
    if (!has(jweKid))
      await store.generateKey({ kid: jweKid, usage: 'jwe-key-agreement', algorithm: 'ec-p256' })
    if (!has(assertionKid))
      await store.generateKey({ kid: assertionKid, usage: 'jwt-signing', algorithm: 'ec-p256' })
    if (clientKid !== undefined && !has(clientKid))
      await store.generateKey({ kid: clientKid, usage: 'jwt-signing', algorithm: 'ec-p256' })
  }
  await using backend = await opening.backend(options)
  const { pin: _, ...token } = options
  return await use({
    jwe: await backend.bind({ kid: jweKid, usage: 'jwe-key-agreement' }),
    assertion: await backend.bind({ kid: assertionKid, usage: 'jwt-signing' }),
    client:
      clientKid === undefined ? undefined : await backend.bind({ kid: clientKid, usage: 'jwt-signing' }),
    token,
    private: [],
    checkValues,
  })
}

function publicJwkOf({ kid, publicJwk }: Key): P256PublicJwk {
  if (publicJwk === undefined) throw new UsageError(`key ${kid} shows no public half`)
  return publicJwk
}

function pemOf(jwk: P256PublicJwk): string {
  return String(createPublicKey({ key: { ...jwk }, format: 'jwk' }).export({ type: 'spki', format: 'pem' }))
}

/** WebCrypto whose one private key signs where it lives. */
function cryptoOf(signer: Key): typeof webcrypto {
  const { subtle } = webcrypto
  const own = {
    sign: async (_algorithm: unknown, _key: unknown, data: ArrayBuffer) =>
      (await operationsOf(signer).sign(ownCopy(new Uint8Array(data)))).buffer,
    exportKey: subtle.exportKey.bind(subtle),
    importKey: subtle.importKey.bind(subtle),
    digest: subtle.digest.bind(subtle),
    verify: subtle.verify.bind(subtle),
  }
  return {
    subtle: own,
    getRandomValues: webcrypto.getRandomValues.bind(webcrypto),
  } as unknown as typeof webcrypto
}

type X509 = typeof import('@peculiar/x509')

const P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

/** A private key of a token, for what asks WebCrypto for a signature under it. */
const IN_TOKEN = {
  type: 'private',
  algorithm: P256,
  extractable: false,
  usages: ['sign'],
} as unknown as webcrypto.CryptoKey

async function csrInToken(x509: X509, client: Key, subject: string): Promise<string> {
  const publicKey = await webcrypto.subtle.importKey('jwk', { ...publicJwkOf(client) }, P256, true, [
    'verify',
  ])
  const keys = { privateKey: IN_TOKEN, publicKey }
  const request = await x509.Pkcs10CertificateRequestGenerator.create(
    { name: subject, keys, signingAlgorithm: P256 },
    cryptoOf(client),
  )
  return request.toString('pem')
}

async function csrOf(
  x509: X509,
  algorithm: 'p256' | 'rsa-4096',
  subject: string,
): Promise<{ csr: string; key: string }> {
  const parameters =
    algorithm === 'p256'
      ? P256
      : {
          name: 'RSASSA-PKCS1-v1_5',
          modulusLength: 4096,
          publicExponent: Uint8Array.of(1, 0, 1),
          hash: 'SHA-256',
        }
  const keys = (await webcrypto.subtle.generateKey(parameters, true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair
  const request = await x509.Pkcs10CertificateRequestGenerator.create(
    { name: subject, keys, signingAlgorithm: parameters },
    webcrypto,
  )
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
  try {
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    return { csr: request.toString('pem'), key: String(key.export({ type: 'pkcs8', format: 'pem' })) }
  } finally {
    der.fill(0)
  }
}

/** A kid as a name that certificates have a place for. */
function commonNameOf({ kid }: Key): string {
  return kid.replaceAll(/[^A-Za-z0-9 _.-]/g, '_').slice(0, ATTRIBUTES['CN'])
}

/**
 * The JWE key's certificate. In software it is signed with the key itself; a key agreement key of a token signs nothing, so there the
 * assertion key signs, and the form says so.
 */
async function certificateOf(x509: X509, keys: IssuerKeys, subject: string): Promise<string> {
  const algorithm = P256
  const jwk = publicJwkOf(keys.jwe)
  const publicKey = await webcrypto.subtle.importKey('jwk', { ...jwk }, algorithm, true, ['verify'])
  const own = keys.private.find(({ kid }) => kid === keys.jwe.kid)
  const name = `${subject}, CN=${commonNameOf(keys.jwe)}`
  const now = new Date(Math.floor(Date.now() / 1000) * 1000)
  const common = {
    serialNumber: `01${Buffer.from(webcrypto.getRandomValues(new Uint8Array(15))).toString('hex')}`,
    subject: name,
    notBefore: now,
    notAfter: new Date(now.getTime() + DAYS * 86_400_000),
    signingAlgorithm: algorithm,
    publicKey,
    extensions: [new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyAgreement, true)],
  }
  if (own !== undefined) {
    const signingKey = await webcrypto.subtle.importKey(
      'jwk',
      own.jwk as webcrypto.JsonWebKey,
      algorithm,
      false,
      ['sign'],
    )
    return (
      await x509.X509CertificateGenerator.create({ ...common, issuer: name, signingKey }, webcrypto)
    ).toString('pem')
  }
  const issuer = `${subject}, CN=${commonNameOf(keys.assertion)}`
  const certificate = await x509.X509CertificateGenerator.create(
    { ...common, issuer, signingKey: IN_TOKEN },
    cryptoOf(keys.assertion),
  )
  return certificate.toString('pem')
}

const QUESTIONS = [
  'How are the PIN key, the PRW key and the MAC key exchanged: key blocks (X9.143, which version), or components?',
  'Which SECCOS profile: layout of prwDataSet, algorithm and padding of PRW and MAC? Which test samples are there?',
  'Is `pinValue` upper-case hex of the 8-byte block?',
  'Does D1 fetch a token from us (OAuth2), or is mTLS alone used?',
  'Does D1 repeat a Set PIN after a timeout, and how often? What is its timeout?',
  'Is D1 sending `apu`, `apv`, `cty` or `typ` in its JWEs?',
  'Which client certificate will D1 show us, and when is it renewed?',
] as const

function formOf(summary: Summary): string {
  const { endpoint, issuerId, subject, jwe, assertion, checkValues } = summary
  return [
    '# Onboarding to Thales D1',
    '',
    `Issuer id: ${issuerId}. Endpoint: ${endpoint}. Subject: ${subject}.`,
    '',
    '| what | kid | file |',
    '|---|---|---|',
    `| TLS client certificate, request (PKCS #10) | ${summary.client.kid ?? ''} | client.csr.pem |`,
    `| JWE key, public | ${jwe.kid} | jwe.public.jwk, jwe.public.pem, jwe.certificate.pem |`,
    `| assertion key (ES256), public | ${assertion.kid} | assertion.public.jwk, assertion.public.pem |`,
    '',
    `JWE certificate: ${jwe.signedBy === jwe.kid ? 'self-signed' : `signed by ${jwe.signedBy}, because the JWE key of a token signs nothing`}.`,
    `Thumbprints (RFC 7638): ${jwe.thumbprint} (${jwe.kid}), ${assertion.thumbprint} (${assertion.kid}).`,
    '',
    '## Key check values',
    '',
    ...(checkValues.length === 0
      ? ['None yet: fill in when the keys have been exchanged.']
      : ['| kid | usage | value | method |', '|---|---|---|---|']),
    ...checkValues.map(
      ({ kid, usage, checkValue }) => `| ${kid} | ${usage} | ${checkValue.value} | ${checkValue.method} |`,
    ),
    '',
    '## Open questions',
    '',
    ...QUESTIONS.flatMap((question, i) => [`${i + 1}. ${question}`, '', '   Answer:', '']),
  ].join('\n')
}

/** What the folder says of itself: `onboarding.json`. */
interface Summary {
  readonly issuerId: string
  readonly endpoint: string
  readonly subject: string
  /** `key`: the file of the private key; of a token's key its kid instead. */
  readonly client: {
    readonly request: string
    readonly key?: string
    readonly kid?: string
    readonly algorithm: string
  }
  readonly jwe: {
    readonly kid: string
    readonly thumbprint: string
    readonly signedBy: string
    readonly in: 'token' | 'software'
  }
  readonly assertion: { readonly kid: string; readonly thumbprint: string; readonly in: 'token' | 'software' }
  readonly checkValues: IssuerKeys['checkValues']
}

/** What stays with the issuer. */
function staysHere(place: 'software' | 'token', file: boolean): string {
  if (place === 'software') return 'client.key.pem and keys.json are secret'
  const token = 'token.json says how your token is opened, for --options'
  return `${file ? 'client.key.pem is secret' : 'nothing in it is secret'}; ${token}`
}

const ATTRIBUTES: Readonly<Record<string, number>> = { C: 2, CN: 64, L: 128, O: 64, OU: 64, ST: 128 }

/** A distinguished name that every X.509 tool reads (ITU-T X.520, upper bounds): `ERR_USAGE` otherwise. */
function subjectOf(values: Values): string {
  const subject = need(values, 'subject')
  const isRight = subject.split(', ').every(part => {
    const [, name = '', value = ''] = /^([A-Z]+)=([\p{L}\p{N} .'-]+)$/u.exec(part) ?? []
    const most = Object.hasOwn(ATTRIBUTES, name) ? ATTRIBUTES[name] : undefined
    return most !== undefined && value.length <= most && (name !== 'C' || /^[A-Z]{2}$/.test(value))
  })
  if (!isRight)
    throw new UsageError(
      `--subject must be a name such as "O=Test Bank, C=DE", of ${Object.keys(ATTRIBUTES).join(', ')}`,
    )
  return subject
}

function endpointOf(values: Values): string {
  const endpoint = need(values, 'endpoint')
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined
  if (url?.protocol !== 'https:' || url.username !== '' || url.password !== '')
    throw new UsageError('--endpoint must be an https URL without user and password')
  return endpoint
}

/** The optional peer that makes requests and certificates, by way of `load`. */
async function readX509(load: () => Promise<X509>): Promise<X509> {
  try {
    return await load()
  } catch {
    throw new UsageError(
      'onboard needs the package @peculiar/x509: npm install @peculiar/x509@1 (with -g where this is)',
    )
  }
}

/** `issuer-pin-crypto onboard`, over some way to open tokens and to load the package for certificates. */
export function onboardCommand(
  opening: Opening = OPENING,
  loadX509: () => Promise<X509> = () => import('@peculiar/x509'),
): Command {
  return {
    name: 'onboard',
    summary: 'make the folder that an issuer hands to Thales to begin with D1',
    help: `usage: issuer-pin-crypto onboard --dir FOLDER --issuer-id ID --endpoint URL
         --subject DN [--client-key p256|rsa-4096|token] [options]

Makes a folder: client.csr.pem, the JWE public key (JWK, PEM, certificate), the
assertion key, onboarding.json, and onboarding.md, a form with the open
questions. Without a token the keys are TEST keys of software, in keys.json; with
one, token.json says how it is opened, without its PIN. Exit code 2 where the
folder is not empty.

  --subject         of the certificates, such as "O=Test Bank, C=DE"
  --client-key      of the TLS client certificate; p256 where absent. Its private
                    key is client.key.pem, because Node.js and most TLS software
                    need it in a file. token: P-256 in the token, for a proxy
                    that reads PKCS#11
  --jwe-kid, --assertion-kid, --client-kid
                    ISSUER-JWE, ISSUER-ASSERTION and ISSUER-TLS where absent; in
                    a token a key by that name is used, or made

${SOURCE_HELP}`,
    run: async (args, io) => {
      const options = {
        ...SOURCE_OPTIONS,
        ...optionsOf('dir', 'issuer-id', 'endpoint', 'subject', 'client-key'),
        ...optionsOf('jwe-kid', 'assertion-kid', 'client-kid'),
      }
      const values = readArguments(args, { options, positionals: 0 }).values as Values
      requireOnePlace(values)
      const dir = need(values, 'dir')
      const issuerId = need(values, 'issuer-id')
      if (!ISSUER_ID.test.test(issuerId))
        throw new UsageError('--issuer-id is not one that D1 has: 10 characters')
      const endpoint = endpointOf(values)
      const subject = subjectOf(values)
      const clientKey =
        values['client-key'] === undefined
          ? 'p256'
          : oneOf(values, 'client-key', ['p256', 'rsa-4096', 'token'])
      if (clientKey === 'token' && !namesToken(values))
        throw new UsageError('--client-key token needs a token: name it with --module and --token')
      if (clientKey !== 'token' && values['client-kid'] !== undefined)
        throw new UsageError('--client-kid goes with --client-key token')
      const x509 = await readX509(loadX509)
      const { write, undo } = openFolder(dir)
      const made = withKeys(values, io, opening, async keys => {
        io.progress?.('client key')
        const { csr, key } =
          keys.client === undefined
            ? await csrOf(x509, clientKey === 'rsa-4096' ? 'rsa-4096' : 'p256', subject)
            : { csr: await csrInToken(x509, keys.client, subject), key: undefined }
        const certificate = await certificateOf(x509, keys, subject)
        const place = keys.private.length > 0 ? 'software' : 'token'
        const signedBy = place === 'software' ? keys.jwe.kid : keys.assertion.kid
        const summary: Summary = {
          issuerId,
          endpoint,
          subject,
          client: {
            request: 'client.csr.pem',
            ...(keys.client === undefined ? { key: 'client.key.pem' } : { kid: keys.client.kid }),
            algorithm: clientKey === 'token' ? 'p256' : clientKey,
          },
          jwe: {
            kid: keys.jwe.kid,
            thumbprint: thumbprintOf(publicJwkOf(keys.jwe)).value,
            signedBy,
            in: place,
          },
          assertion: {
            kid: keys.assertion.kid,
            thumbprint: thumbprintOf(publicJwkOf(keys.assertion)).value,
            in: place,
          },
          checkValues: keys.checkValues,
        }
        write('client.csr.pem', `${csr}\n`)
        if (key !== undefined) write('client.key.pem', key, 'secret')
        for (const [name, one, alg, purpose] of [
          ['jwe', keys.jwe, 'ECDH-ES', 'enc'],
          ['assertion', keys.assertion, 'ES256', 'sig'],
        ] as const) {
          const jwk = publicJwkOf(one)
          write(
            `${name}.public.jwk`,
            `${JSON.stringify({ ...jwk, kid: one.kid, alg, use: purpose }, null, 2)}\n`,
          )
          write(`${name}.public.pem`, pemOf(jwk))
        }
        write('jwe.certificate.pem', `${certificate}\n`)
        if (keys.private.length > 0) {
          const list = keys.private.map(({ kid, usage, jwk }) => ({
            kid,
            usage,
            algorithm: 'ec-p256',
            material: jwk,
          }))
          write('keys.json', `${JSON.stringify(list, null, 2)}\n`, 'secret')
        }
        if (keys.token !== undefined)
          write('token.json', `${JSON.stringify(keys.token, null, 2)}\n`, 'secret')
        write('onboarding.json', `${JSON.stringify(summary, null, 2)}\n`)
        write('onboarding.md', `${formOf(summary)}\n`)
        show(
          values,
          io,
          summary,
          `the folder is made: begin with onboarding.md; ${staysHere(place, key !== undefined)}`,
        )
        return 0
      })
      // A part of a folder is nothing to hand on; keys of a token stay, and are used the next time.
      return made.catch((error: unknown) => {
        undo()
        throw error
      })
    },
  }
}
