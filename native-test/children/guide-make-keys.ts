/** The function of the guide "Key ceremony", with what its caller would print. */
import { makeKeys } from '../../examples/guides/key-ceremony/make-keys.js'
import { TOKEN } from '../../examples/guides/your-hsm/token.js'

for (const line of await makeKeys(TOKEN, 2026)) console.log(line)
