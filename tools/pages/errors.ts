/**
 * What each error code means and what to do about it: one table, closed as the union of codes is, so that a code without
 * a page does not compile. docs/errors.md and docs/errors/ are made of it.
 */
import type { ErrorCode } from '../../src/base/errors.js'

interface Told {
  /** The class, which says what else the error carries. */
  readonly kind: string
  readonly means: string
  /** What to do, in the order in which to try it. */
  readonly steps: readonly string[]
  /** Whether trying the same again may help; as the error's own `retryable` says in each case. */
  readonly again?: string
  readonly see?: readonly (readonly [title: string, path: string])[]
}

const GUIDE = '../guides'
const YOUR_HSM = ['Running against your HSM', `${GUIDE}/your-hsm.md`] as const
const OPERATIONS = ['Running on tokens', '../operations.md'] as const
const CEREMONY = ['Key ceremony', `${GUIDE}/key-ceremony.md`] as const
const TO_HSM = ['From software to an HSM', `${GUIDE}/software-to-hsm.md`] as const
const SECCOS = ['SECCOS', '../seccos.md'] as const
const PROFILE = ['Writing a SECCOS profile', `${GUIDE}/seccos-profile.md`] as const
const DATABASES = ['Running the databases', '../databases.md'] as const
const HTTP = ['Over HTTP', '../http.md'] as const
const RETRIES = ['Registering cards at D1', `${GUIDE}/registering-cards.md`] as const
const ONE_ERROR = ['Why one error', '../decisions/0004-one-error.md'] as const

export const ERRORS: Readonly<Record<ErrorCode, Told>> = {
  ERR_ARGUMENT: {
    kind: 'ArgumentError (a TypeError)',
    means:
      'The calling program made a mistake: a wrong type, a missing member, or an option that this function does not have.',
    steps: [
      'Read the message: it names the function and the member.',
      'Fix the call. A misspelt option is refused rather than ignored, so look at its spelling first.',
    ],
  },
  ERR_PIN: {
    kind: 'InputError',
    means: 'What was given as a PIN is not 4 to 12 decimal digits.',
    steps: ['Refuse the input. The message does not repeat it, and neither should yours.'],
  },
  ERR_PAN: {
    kind: 'InputError',
    means:
      'What was given as a PAN is not 10 to 19 decimal digits, or has fewer than this computation takes (a PVV: 12; an offset: what its key says).',
    steps: ['Refuse the input.', 'Look for spaces or hyphens: a PAN is digits alone.'],
  },
  ERR_DISPOSED: {
    kind: 'InputError',
    means: 'A `Pin` was used after its digits had been wiped, or a PAN sealer after its keys had been.',
    steps: [
      'Keep the `using` statement (or the `finally` with `dispose()`) around every use of the PIN.',
      'Await what uses the PIN before its block ends: a promise that is returned outlives it.',
    ],
  },
  ERR_LENGTH: {
    kind: 'InputError',
    means:
      'Bytes or text have a length that the function does not take. The message says how long it is and what was expected.',
    steps: ['Refuse the input.', 'A length of twice the expected one is often hex that was not decoded.'],
  },
  ERR_ENCODING: {
    kind: 'InputError',
    means: 'A text is not in its encoding: hex, base64url, PEM or DER.',
    steps: [
      'Refuse the input.',
      'Base64url has no padding and neither `+` nor `/`; hex has an even number of digits.',
    ],
  },
  ERR_POINT: {
    kind: 'InputError',
    means: 'Bytes or a JWK are not a point on P-256.',
    steps: [
      'Refuse the input: an off-curve point is an attack on the private key.',
      'An uncompressed point has 65 bytes and begins with 04.',
    ],
  },
  ERR_PIN_BLOCK: {
    kind: 'PinBlockError',
    means:
      'Not a PIN block of this PAN under this key, as far as the format can notice: formats 0 and 3 bind 12 digits of the PAN, 4 all of them, 1 and 2 none. It never says which check failed.',
    steps: [
      'Refuse the message.',
      'If every block fails: compare the check value of the key with the other side, then the format.',
      'If the blocks of one card fail: compare the PAN with which the block was made.',
    ],
    see: [ONE_ERROR],
  },
  ERR_PIN_POLICY: {
    kind: 'PinPolicyError',
    means: "The PIN is well formed, and the issuer's policy does not take it. `reason` says which rule.",
    steps: ['Tell the cardholder to choose another PIN, and no more.', 'Keep `reason` for the audit.'],
  },
  ERR_TRANSLATION_REFUSED: {
    kind: 'TranslationError',
    means:
      'The table of translations does not allow this pair of formats (PCI PIN 3-3: a format that binds the PAN is not given up for one that does not), or a block that is bound to no PAN was to be moved to another PAN or paired with one.',
    steps: [
      'Do not. Ask the other side for a format that the table takes.',
      'A block of format 1 first becomes one of format 0, 3 or 4, with the PAN of its card.',
    ],
    see: [['Verifying a PIN at authorisation', `${GUIDE}/verifying-a-pin.md`]],
  },
  ERR_KEY_NOT_FOUND: {
    kind: 'KeyError',
    means:
      'The backend has no key by this kid (in a token: no object with this CKA_LABEL or CKA_ID); or a stored row names a key for PANs or for seals that was not given.',
    steps: [
      'List what is there: `issuer-pin-crypto key list`.',
      'Look at the token that was opened: the right kid in the wrong partition is not found either.',
      'A token key that is private is only seen after login.',
      '`no PAN key`, `no row seal key`: give the old key as well as the new one until every row has moved.',
    ],
    see: [YOUR_HSM, CEREMONY],
  },
  ERR_KEY_AMBIGUOUS: {
    kind: 'KeyError',
    means: 'Two keys have this kid. Neither is taken, because one of them is the wrong one.',
    steps: [
      'Find out which is right by its check value: `issuer-pin-crypto key list` shows both.',
      'Delete the other or give it another label; or name the CKA_ID of the right one in the option `keys`.',
    ],
    see: [CEREMONY],
  },
  ERR_KEY_CHECK_VALUE: {
    kind: 'KeyError',
    means:
      'The key under this kid is not the one whose check value you stated, or not the one that was bound before.',
    steps: [
      'Stop: somebody put another key under a known name. Find out who, and when.',
      'If it was you: a new value belongs under a new kid.',
      'Check which check value was written down: encrypt-zero, CMAC or a JWK thumbprint.',
    ],
    see: [CEREMONY, OPERATIONS],
  },
  ERR_KEY_USAGE: {
    kind: 'KeyError',
    means:
      'The key is for something else: its usage, its mode, or what the token says of it, does not admit the operation.',
    steps: [
      'Bind a key of the right usage. The usage table says which verb asks for which.',
      'A token key: the message names the `CKA_…` that is missing or too much. Make the key anew without it; `openKeyStore` makes keys so.',
      'One key has one usage: do not widen the old one.',
    ],
    see: [['The usage table', '../verbs.md']],
  },
  ERR_KEY_ALGORITHM: {
    kind: 'KeyError',
    means:
      'The operation does not exist with a key of this algorithm (a format 4 block with TDEA, a retail MAC with AES), the key is of another algorithm than stated, or the token object is of no algorithm of this library (an RSA key, an EC key on another curve).',
    steps: [
      'Bind a key of the algorithm that the message names.',
      'SECCOS: the profile says which algorithm its computations take.',
    ],
  },
  ERR_KEY_MATERIAL: {
    kind: 'KeyError',
    means:
      'The bytes, the JWK or the PEM are no key of the stated algorithm; or a token shows a key of another length, or a public key that is no point on P-256.',
    steps: [
      'Compare the length: 16 or 24 bytes for TDEA, 16, 24 or 32 for AES, a private scalar on P-256.',
      'Components: were all of them entered?',
    ],
    see: [CEREMONY],
  },
  ERR_KEY_WEAK: {
    kind: 'KeyError',
    means:
      'A degenerate key: a weak or semi-weak DES key, or parts that are equal, so that it is worth a single DES key; in a ceremony, a component that was given before.',
    steps: [
      'Make a proper key. A test key from a manual is often one of these.',
      'In a ceremony: two equal components cancel each other out. Begin again with the first officer.',
    ],
  },
  ERR_KEY_ATTRIBUTES: {
    kind: 'KeyError',
    means:
      'A token key whose value could be read or taken away, that can be used without a login, or that could be given wider rights later (CKA_SENSITIVE, CKA_EXTRACTABLE, CKA_PRIVATE, CKA_MODIFIABLE, CKA_COPYABLE). The message names the attribute.',
    steps: [
      'Make or import the key with the template that `key generate` and `key import` write.',
      'An attribute that the token does not show counts as not set as it should be.',
      "Where your token cannot do otherwise, the message says by which name it can be accepted (`accept: ['copyable']`): your security officer's decision.",
      'What a key may *do* beyond its usage is another code: ERR_KEY_USAGE.',
    ],
    see: [YOUR_HSM, ['Token attributes', '../decisions/0041-token-attributes.md']],
  },
  ERR_KEY_FOREIGN: {
    kind: 'KeyError',
    means:
      'The key was bound by another backend (or two keys of one call by two), was unbound, or is no key of this library.',
    steps: [
      'Bind it by the backend that is to use it. In a group of tokens, bind by the group.',
      '`bound no longer`: bind it again; what was unbound stays so.',
      'To move a block between two backends, use `rotateStorageKey`, which deciphers in one and enciphers in the other.',
    ],
  },
  ERR_KEY_PERIOD: {
    kind: 'KeyError',
    means:
      'The key may not be used yet, or no longer, for new data: its cryptoperiod has not begun or has ended.',
    steps: [
      'Rotate. Deciphering what is stored goes on.',
      'If it has just begun: look at the clock of this machine.',
    ],
    see: [['Rotation while the service runs', `${GUIDE}/rotation.md`]],
  },
  ERR_KEY_BLOCK: {
    kind: 'KeyBlockError',
    means:
      'A key block (X9.143, TR-31) is not read. `entry` names the field of the header; `block` where it does not open, whatever was wrong.',
    steps: [
      '`block`: compare the check value of the key block protection key (KBPK) with the sender.',
      'A field: ask for the block with a usage, mode or version that is taken.',
    ],
    see: [CEREMONY],
  },
  ERR_KEY_LIMIT: {
    kind: 'KeyError',
    means: "The opener's bound on operations under this key is reached.",
    again: 'later, unless one call wants more than the bound allows at all',
    steps: [
      'Find out who asks so often: a PIN can be guessed by trying.',
      'Only then raise the limit that the backend was opened with.',
    ],
  },
  ERR_HOST_DECIPHER: {
    kind: 'KeyError',
    means:
      "The operation would put a clear PIN, or a clear PIN block, into this process's memory, and the key was not bound to allow it.",
    steps: [
      "On a token that can: `translation: 'reencipher'`, so that the clear block stays inside. Its price: nothing can be checked in the block on its way.",
      'Otherwise bind the key (the one that deciphers) with `hostDecipher: true`. That is a decision of your security officer, and is made by name for this reason.',
      'Look at what your token can: `capabilities().reencipher`.',
      'The message says `not made for translation`: make both keys anew with `translation`, the one that the block goes to without CKA_DECRYPT.',
    ],
    see: [TO_HSM, ['Why it is opt-in', '../decisions/0002-host-decipher.md']],
  },
  ERR_JWE: {
    kind: 'JweError',
    means: 'The JWE does not open: form, header, key, point or tag. It never says which.',
    steps: [
      'Refuse the message.',
      'If every JWE fails: does D1 have the public key that you use now? Compare kid and thumbprint.',
      'The inspector shows the header: `issuer-pin-crypto inspect jwe`.',
    ],
    see: [ONE_ERROR],
  },
  ERR_JWE_RECIPIENT: {
    kind: 'JweError',
    means: 'The public key to seal to is unusable: no P-256 JWK, a point off the curve, or a private key.',
    steps: ['Fix the configuration: it is the public JWK of D1, with `kty`, `crv`, `x`, `y` and a kid.'],
  },
  ERR_PROFILE: {
    kind: 'ProfileError',
    means: 'A SECCOS profile does not hold. `path` is the JSON pointer of the entry.',
    steps: [
      'Look at `path`, and run `issuer-pin-crypto profile check`.',
      'The JSON schema is in the package: `issuer-pin-crypto/seccos-profile.schema.json`.',
    ],
    see: [PROFILE],
  },
  ERR_DATA_SET: {
    kind: 'DataSetError',
    means:
      'A value that a SECCOS data set cannot hold, or does not hold as the profile has it. `field` is its id.',
    steps: [
      'Inspect the data set by your profile: `issuer-pin-crypto inspect data-set`.',
      'A masked field that is not zero means that the PAN or the PIN came along where it must not.',
    ],
    see: [SECCOS, PROFILE],
  },
  ERR_CHANGE_COUNTER: {
    kind: 'ChangeCounterError',
    means:
      'The PIN change counter refuses. `reason`, for your operator only, says whether the intdatag is unknown, of another card, expired, spent or superseded, was issued with another PCC or by the database before a failover, or the counter is exhausted.',
    steps: [
      'Answer as the endpoints do: one refusal, whatever the reason.',
      'Many `expired`: compare the time to live with how long D1 takes.',
      'Many `spent`: somebody sends another request with an intdatag that was accepted. The same request again is answered as before.',
      '`failover`: D1 asks for a new counter and sends again; nothing else is to do.',
      '`exhausted`: the PCC of the card has reached 9999 and the policy does not wrap; an operator begins anew (`restart`).',
    ],
    see: [SECCOS, ['The change counter', '../decisions/0008-change-counter.md']],
  },
  ERR_PRW_MAC: {
    kind: 'PrwMacError',
    means: 'The MAC over data set and PRW is wrong. Nothing of the request may be stored.',
    steps: [
      'Refuse.',
      'If every request fails: compare the check value of the MAC key, then the computation in the profile.',
    ],
    see: [SECCOS, PROFILE],
  },
  ERR_D1_MESSAGE: {
    kind: 'D1MessageError',
    means: 'A member of a D1 message breaks its contract. `field` names the member, never its value.',
    steps: ['As the issuer: answer 400 (the endpoints do).', "As D1's client: fix the request."],
    see: [HTTP],
  },
  ERR_D1_REQUEST: {
    kind: 'D1ClientError',
    means: 'D1 answered, and refused: `status`, perhaps `errorCode`.',
    again: 'where `retryable` says so (408, 429, 500 to 599)',
    steps: [
      '401 or 403: the client id, the key that D1 registered, the scope.',
      'A refusal with `attempt` above 1: an earlier attempt may have succeeded; read the card.',
      "Tell D1's support the `correlationId`.",
    ],
    see: [RETRIES],
  },
  ERR_D1_RESPONSE: {
    kind: 'D1ClientError',
    means: "D1's answer is not in its contract: no JSON object, too long, a redirect.",
    steps: [
      'Look at what is between you and D1: a proxy that answers in its place.',
      'Was a version of the contract announced?',
    ],
    see: [RETRIES],
  },
  ERR_D1_UNREACHABLE: {
    kind: 'D1ClientError',
    means: 'No answer: network, TLS or time. `delivery` says whether D1 may have the request.',
    again: 'by `retryable`; a POST only after looking whether the first one arrived',
    steps: [
      "`not-sent`: name, port, proxy, and D1's certificate authority.",
      '`unknown`: D1 may have done it. Read the card before you send again.',
    ],
    see: [RETRIES],
  },
  ERR_ABORTED: {
    kind: 'AbortedError',
    means: 'Your `AbortSignal` fired. `cause` is its reason.',
    steps: ['Nothing, if you meant it.', 'A write may have happened: read what is stored before you repeat.'],
  },
  ERR_BACKEND_CLOSED: {
    kind: 'BackendError',
    means: 'The backend, or the store, was closed before or during the call.',
    steps: [
      'Close after what is under way has ended (`await handler.settled()`).',
      'Open a new one: a closed one stays closed.',
    ],
    see: [['Running in production', `${GUIDE}/running-in-production.md`]],
  },
  ERR_BACKEND_SEALED: {
    kind: 'BackendError',
    means: 'A key was bound after `seal()`, or is not in the key ring, or wider than the key ring has it.',
    steps: [
      'Bind every key at the start, before `seal()`.',
      'Write the key into the key ring that the backend is opened with.',
    ],
    see: [['The opener decides', '../decisions/0063-the-opener-decides.md']],
  },
  ERR_BACKEND_BUSY: {
    kind: 'BackendError',
    means:
      'No session, no connection or no lock in time, the line is full, or what is asked (a key set, a card that others write) is out of reach just now.',
    again: 'yes, after a short and random wait',
    steps: [
      'Now and then: try again.',
      'All the time: count `sessions.max` against what the HSM allows, or the pool against the database.',
      '`calls hang in the module`: no wait helps. End the process; its supervisor starts it anew.',
    ],
    see: [OPERATIONS, DATABASES],
  },
  ERR_BACKEND_FAILED: {
    kind: 'BackendError',
    means:
      'Something that should work does not: a broken engine, an executor that ended, a record that does not read, a database error (with its SQLSTATE), a database file that others may read or that was replaced, a function of yours that broke its contract.',
    again: 'where `retryable` says so: an executor is started anew',
    steps: [
      'Read the message; it says which part.',
      '`seal` in the message: somebody wrote into the database; compare with a backup.',
      '`must be initialised anew`: end the process and start it again, or allow `recovery.reinitialise`.',
      'Otherwise report it.',
    ],
    see: [DATABASES, OPERATIONS],
  },
  ERR_UNSUPPORTED: {
    kind: 'BackendError',
    means:
      'This backend, this Node or this database cannot: a driver that is not installed, a database of a later version, an engine that is not here.',
    steps: [
      'The message names the package or the version.',
      'A database of a later version: update the library on this machine.',
    ],
    see: [['Where it runs', '../consumers.md']],
  },
  ERR_UNSUPPORTED_BY_TOKEN: {
    kind: 'BackendError',
    means:
      'The token does not have the mechanism, does it only where it is opted in, or cannot make what a check value is compared with. The message says which.',
    steps: [
      'Look at `capabilities().notes`, or run `issuer-pin-crypto doctor`.',
      "State your vendor: `vendor: '…'` may know another way.",
      '`import it`: the token does not make such a key itself; bring it in as a key block or in components.',
      'Ask for the firmware or licence that enables the mechanism.',
    ],
    see: [YOUR_HSM, ['Vendors', '../vendors.md']],
  },
  ERR_PKCS11_UNAVAILABLE: {
    kind: 'BackendError',
    means: 'Neither `pkcs11js` nor `koffi` loads: the packages that call into a PKCS#11 library.',
    steps: [
      '`npm install pkcs11js` where there is a compiler; `npm install koffi` where there is none.',
      'In a bundle: leave both external.',
    ],
    see: [['Where it runs', '../consumers.md']],
  },
  ERR_PKCS11_MODULE: {
    kind: 'Pkcs11Error or BackendError',
    means:
      'There is no such file, it is no PKCS#11 module for this process, its C_Initialize failed, or it is initialised in this process already with other `initParameters`.',
    steps: [
      "Look at the path, and at the user's rights to it.",
      "`file` shows whether it is of this machine's architecture; `ldd` which library it misses.",
      "The vendor's own configuration file or environment variable must be visible to this process.",
    ],
    see: [YOUR_HSM],
  },
  ERR_PKCS11_TOKEN: {
    kind: 'Pkcs11Error or BackendError',
    means: 'No token, or two, by that label, serial number or slot; or the token was removed.',
    steps: [
      "Open it by hand, with the vendor's own tool: which tokens are there, and what are they called?",
      'Name the token by its label or serial number: slot numbers change.',
    ],
    see: [YOUR_HSM],
  },
  ERR_PKCS11_LOGIN: {
    kind: 'Pkcs11Error or BackendError',
    means: 'The login was refused, or was lost and could not be made again. Nothing tries a wrong PIN twice.',
    steps: [
      'Do not restart in a loop: every start is a try, and a token locks after a few.',
      "Compare the PIN by the vendor's own tool.",
      '`CKR_USER_PIN_NOT_INITIALIZED`: the officer has to set the user PIN.',
    ],
    see: [OPERATIONS],
  },
  ERR_PKCS11_CALL: {
    kind: 'Pkcs11Error',
    means:
      'A PKCS#11 function returned an error. `function` and return value are in the message, as the standard calls them.',
    again: 'where `retryable` says so: a lost session is opened anew',
    steps: [
      'Look the return value up in the manual of your HSM.',
      '`CKR_DEVICE_ERROR` and `CKR_DEVICE_REMOVED`: the channel of the backend says `away`; look at the network and at the HSM.',
    ],
    see: [OPERATIONS],
  },
  ERR_PKCS11_SELF_TEST: {
    kind: 'BackendError',
    means:
      'The token computed something other than the known answer. Wrong cryptography is worse than none, so nothing goes on.',
    steps: [
      'Take the token out of service.',
      'Run `issuer-pin-crypto doctor`, and tell the vendor which mechanism failed.',
    ],
    see: [['A token that answers wrongly', '../decisions/0096-a-token-that-answers-wrongly.md'], YOUR_HSM],
  },
}

/** The page of one code. */
export function errorPage(code: ErrorCode): string {
  const { kind, means, steps, again, see } = ERRORS[code]
  const parts = [
    `# ${code}`,
    means,
    `| | |\n|---|---|\n| class | ${kind} |\n| trying again | ${again ?? 'does not help'} |`,
    '## What to do',
    steps.map((step, i) => `${i + 1}. ${step}`).join('\n'),
  ]
  if (see !== undefined) parts.push(`More: ${see.map(([title, path]) => `[${title}](${path})`).join(', ')}.`)
  parts.push('[All error codes](../errors.md)')
  return `${parts.join('\n\n')}\n`
}

/** docs/errors.md. */
export function errorIndex(): string {
  const rows = (Object.keys(ERRORS) as ErrorCode[]).map(code => {
    const { means, steps } = ERRORS[code]
    return `| [\`${code}\`](errors/${code}.md) | ${means} | ${steps[0]} |`
  })
  return `# Errors: every code, what it means, what to do

Every error has a \`code\` from a closed union (\`ErrorCode\`), and \`retryable\`. No message holds a secret. Codes that begin alike,
\`ERR_PKCS11_…\` for one, come from one part; each has a page of its own, with everything to try.

| code | means | what to do first |
|---|---|---|
${rows.join('\n')}
`
}
