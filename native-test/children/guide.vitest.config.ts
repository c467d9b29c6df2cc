/** Runs the contract suite of the guide "Running against your HSM" as its reader would, on the sources. */
import { readFileSync } from 'node:fs'
import { defineConfig } from 'vitest/config'

const ROOT = new URL('../..', import.meta.url).pathname
const { compilerOptions } = JSON.parse(readFileSync(`${ROOT}tsconfig.test.json`, 'utf8')) as {
  compilerOptions: { paths: Record<string, [string]> }
}

const config: ReturnType<typeof defineConfig> = defineConfig({
  root: ROOT,
  resolve: {
    alias: Object.entries(compilerOptions.paths).map(([name, [path]]) => ({
      find: new RegExp(`^${name}$`),
      replacement: ROOT + path,
    })),
  },
  test: { include: ['examples/guides/your-hsm/contract.test.ts'], pool: 'forks' },
})

export default config
