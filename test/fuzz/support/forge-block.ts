import forge from 'node-forge'

/** One block with node-forge, another implementation of TDEA: hex of 8 bytes under hex of 16. */
export function forgeBlock(direction: 'createCipher' | 'createDecipher', key: string, block: string): string {
  const cipher = forge.cipher[direction]('3DES-ECB', forge.util.hexToBytes(key + key.slice(0, 16)))
  cipher.start({})
  cipher.update(forge.util.createBuffer(forge.util.hexToBytes(block)))
  return cipher.output.toHex().slice(0, 16)
}
