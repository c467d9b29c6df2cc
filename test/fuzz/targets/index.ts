/** All targets, by what they are entrances to. */
import type { FuzzTarget } from '../target.js'
import { cli } from './cli.js'
import { clientAnswers, retryAfter } from './client-answers.js'
import { d1Messages } from './d1-messages.js'
import { dataSet, dataSetText } from './data-set.js'
import { digits } from './digits.js'
import { base64url, hexText, strictJsonText } from './encodings.js'
import { handler, tokenRequest } from './handler.js'
import { shownPinBlock } from './inspect.js'
import { openedJwe, shownHeader } from './jwe.js'
import { keyMaterial, recipient } from './keys.js'
import { macVerbs, padding } from './mac.js'
import { format0, pinBlockVerbs } from './pin-block.js'
import { ecPoint, pkcs11Options, tokenQuery } from './pkcs11.js'
import { profile } from './profile.js'
import { socket } from './socket.js'
import { basicHeader, tokens } from './tokens.js'

export const TARGETS: readonly FuzzTarget[] = [
  ...[format0, pinBlockVerbs, shownPinBlock, digits],
  ...[base64url, hexText, strictJsonText],
  ...[dataSetText, dataSet, profile],
  ...[openedJwe, shownHeader, recipient, keyMaterial],
  ...[padding, macVerbs],
  ...[d1Messages, handler, tokenRequest, socket, tokens, basicHeader],
  ...[clientAnswers, retryAfter],
  ...[ecPoint, tokenQuery, pkcs11Options],
  cli,
]
