import { copyFileSync } from 'node:fs'
import { defineConfig, type Options } from 'tsup'

const config: Options = {
  entry: {
    index: 'src/index.ts',
    software: 'src/software.ts',
    pkcs11: 'src/pkcs11.ts',
    d1: 'src/d1.ts',
    sqlite: 'src/sqlite.ts',
    postgres: 'src/postgres.ts',
    tools: 'src/tools.ts',
    testing: 'src/testing.ts',
    cli: 'src/cli/cli.ts',
  },
  format: ['esm', 'cjs'],
  target: 'node20.19',
  platform: 'node',
  dts: true,
  clean: true,
  // Shared chunks keep one copy of each class per module system, so that `instanceof` holds across subpaths.
  splitting: true,
  sourcemap: false,
  silent: true,
  onSuccess: async () =>
    copyFileSync('src/seccos/profile/profile.schema.json', 'dist/seccos-profile.schema.json'),
}

export default defineConfig(config) as ReturnType<typeof defineConfig>
