import { defineConfig, type Options } from 'tsup'

const config: Options = {
  entry: { bin: 'src/bin.ts' },
  format: ['esm'],
  target: 'node20.19',
  platform: 'node',
  clean: true,
  sourcemap: false,
  silent: true,
}

export default defineConfig(config) as ReturnType<typeof defineConfig>
