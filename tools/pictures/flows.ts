/** The three PIN calls of D1 as sequences: who asks whom, where the PIN block is opened, and what each answer is. */
import { sequence } from './kit.js'

const LANES = [
  { name: 'Thales D1', below: 'has the PAN, sees the PIN', kind: 'pan' },
  { name: 'issuerEndpoints', below: 'your service', kind: 'plain' },
  { name: 'Keys', below: 'software or PKCS#11', kind: 'key' },
  { name: 'Store', below: 'IssuerStore', kind: 'plain' },
] as const

/** Get PIN. */
export function getPin(): string {
  return sequence({
    title: 'Get PIN',
    description:
      'D1 asks for the PIN of a card. The service reads the stored PIN block, moves it from the storage key to the key shared with D1, seals it in a JWE to the public key of D1 and answers 200.',
    lanes: LANES,
    steps: [
      { from: 0, to: 1, text: 'GET …/cards/{cardId}/pin', code: true },
      {
        at: 1,
        lines: ['Who calls, for which issuer?', 'no caller: 401 or 403, nothing is read'],
        kind: 'plain',
      },
      { from: 1, to: 3, text: 'card and stored block' },
      { from: 1, to: 2, text: 'translate: PEK to ZPK' },
      { at: 2, lines: ['decipher, check, encipher', 'the clear block is here only'], kind: 'pin' },
      { from: 2, to: 1, text: 'block under the ZPK', answer: true },
      { at: 1, lines: ['seal: ECDH-ES, A256GCM', 'a fresh key for each answer'], kind: 'key' },
      { from: 1, to: 0, text: '200 { type, encryptedPinBlock }', answer: true, code: true },
    ],
  })
}

/** Set PIN of type ISO0. */
export function setPin(): string {
  return sequence({
    title: 'Set PIN (ISO0)',
    description:
      'D1 sends a PIN block in a JWE. The service opens it, moves the block from the key shared with D1 to its storage key, checks it on the way, stores it, and only then answers 204. Every refusal is one and the same 400.',
    lanes: LANES,
    steps: [
      { from: 0, to: 1, text: 'PUT …/pin { type, JWE }', code: true },
      { from: 1, to: 3, text: 'card: PAN, blocked or not' },
      { from: 1, to: 2, text: 'key agreement' },
      { from: 2, to: 1, text: 'content key', answer: true },
      { at: 1, lines: ['open the JWE', 'kid and block, strictly read'], kind: 'plain' },
      { from: 1, to: 2, text: 'translate: ZPK to PEK' },
      { at: 2, lines: ['decipher, check for this PAN', 'and the PIN for its digits'], kind: 'pin' },
      { from: 2, to: 1, text: 'block under the PEK', answer: true },
      { from: 1, to: 3, text: 'store, with the hash of the JWE' },
      { from: 3, to: 1, text: 'on disk', answer: true },
      { from: 1, to: 0, text: '204', answer: true, code: true },
    ],
  })
}

/** Set PIN of type 3DES_SECCOS, with the change counter before it. */
export function setPinSeccos(): string {
  return sequence({
    title: 'Set PIN (3DES_SECCOS)',
    description:
      'D1 asks for a PIN change counter and gets pcc and intdatag. It computes PRW and MAC and sends them. The service opens the JWE, checks counter, data set and MAC, stores the PRW once, and answers 204. It never sees the PIN.',
    lanes: LANES,
    steps: [
      { from: 0, to: 1, text: 'GET …/pin/changeCounter', code: true },
      { from: 1, to: 3, text: 'keep intdatag until it expires' },
      { from: 1, to: 0, text: '200 { pcc, intdatag }', answer: true, code: true },
      { rule: 'D1 computes PRW and MAC; the PIN stays there' },
      { from: 0, to: 1, text: 'PUT …/pin { type, JWE }', code: true },
      { from: 1, to: 2, text: 'key agreement' },
      { from: 2, to: 1, text: 'content key', answer: true },
      { at: 1, lines: ['intdatag open? data set masked?', 'then put the PAN in its place'], kind: 'plain' },
      { from: 1, to: 2, text: 'MAC over data set and PRW' },
      { from: 2, to: 1, text: 'compared in constant time', answer: true },
      { from: 1, to: 3, text: 'claim intdatag, store the PRW' },
      { from: 3, to: 1, text: 'on disk', answer: true },
      { from: 1, to: 0, text: '204', answer: true, code: true },
    ],
  })
}
