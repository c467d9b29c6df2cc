/** `inspectPinBlock`: lengths and states, and never a digit of a clear block. */
import { inspectPinBlock } from '../../../src/tools.js'
import { Input } from '../support/input.js'
import { attempt } from '../support/oracle.js'
import { check, type FuzzTarget } from '../target.js'

const STATES = ['clear', 'enciphered', 'secret', undefined] as const

export const shownPinBlock: FuzzTarget = {
  name: 'pin-block-shown',
  share: 35,
  seeds: [0, 1].map(state => Uint8Array.from([state, 0x04, 0x12, 0x15, 0xfe, 0xdc, 0xba, 0x98, 0x76])),
  run(bytes) {
    const input = new Input(bytes)
    const state = input.pick(STATES)
    const block = input.rest()
    const hex = Buffer.from(block).toString('hex').toUpperCase()
    const rule = {
      codes: ['ERR_LENGTH', 'ERR_ARGUMENT'],
      hidden: [hex],
      named: [String(block.length)],
    } as const
    const text = attempt(() => inspectPinBlock({ block, state: state as 'clear' }), rule)
    const sound = (block.length === 8 || block.length === 16) && (state === 'clear' || state === 'enciphered')
    check((text !== undefined) === sound, 'blocks of 8 and 16 bytes, in one of two states')
    if (text === undefined) return
    // The same block with other digits looks the same: all that is shown is the control nibble, and if the length is one.
    const other = block.map((byte, i) => (i === 0 ? byte : byte ^ 0x5a))
    check(
      inspectPinBlock({ block: other, state: state as 'clear' }) === text,
      'what is shown does not depend on the digits',
    )
  },
}
