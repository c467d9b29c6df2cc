import { copyFileSync, readFileSync } from 'node:fs'
import { defineConfig, type Options } from 'tsup'

const library = {
  index: 'src/index.ts',
  software: 'src/software.ts',
  pkcs11: 'src/pkcs11.ts',
  d1: 'src/d1.ts',
  sqlite: 'src/sqlite.ts',
  postgres: 'src/postgres.ts',
  tools: 'src/tools.ts',
  testing: 'src/testing.ts',
}

const common: Options = {
  target: 'node20.19',
  platform: 'node',
  // Some signatures name types of Node's; whoever has no @types/node is told so by the compiler, by name.
  dts: { banner: '/// <reference types="node" />' },
  // Shared chunks keep one copy of each class per module system, so that `instanceof` holds across subpaths.
  splitting: true,
  sourcemap: false,
  silent: true,
}

const config: Options[] = [
  {
    ...common,
    entry: {
      ...library,
      cli: 'src/cli/cli.ts',
      // The other end of the executors `threads` and `process`; both builds start this one.
      'pkcs11-host': 'src/backend/pkcs11/executor/host-entry.ts',
    },
    format: ['esm'],
    onSuccess: async () =>
      copyFileSync('src/seccos/profile/profile.schema.json', 'dist/seccos-profile.schema.json'),
  },
  {
    ...common,
    dts: false,
    // One file each without chunks, so that a program that is bundled can take it along.
    splitting: false,
    entry: {
      'sqlite-host': 'src/stores/sqlite/host-entry.ts',
      'search-host': 'src/tools/search/host-entry.ts',
      'agreement-host': 'src/backend/software/agreement-entry.ts',
    },
    format: ['esm'],
    outExtension: () => ({ js: '.mjs' }),
  },
  {
    ...common,
    entry: library,
    // For import.meta.url, by which the executors find the file that they start.
    shims: true,
    noExternal: ['jose'],
    format: ['cjs'],
    esbuildPlugins: [
      {
        name: 'optional-packages',
        setup(build) {
          build.onLoad({ filter: /\/src\/base\/optional\.ts$/ }, ({ path }) => ({
            contents: readFileSync(path.replace(/\.ts$/, '.cjs.ts')),
            loader: 'ts',
          }))
        },
      },
      {
        // `jose` is ESM only, and `require` of ESM is off in Jest and in AWS Lambda: CommonJS brings its own copy.
        name: 'jose-beside',
        setup(build) {
          build.onResolve({ filter: /^jose$/ }, () => ({ path: './jose.cjs', external: true }))
        },
      },
    ],
  },
  {
    ...common,
    dts: false,
    // What tsup does to CommonJS chunks spoils class fields; one file without chunks stays as esbuild made it.
    splitting: false,
    entry: { jose: 'node_modules/jose/dist/webapi/index.js' },
    format: ['cjs'],
    noExternal: ['jose'],
    banner: { js: '/*! jose, MIT License, Copyright (c) Filip Skokan; https://github.com/panva/jose */' },
  },
]

export default defineConfig(config) as ReturnType<typeof defineConfig>
