/**
 * Writes inspector.html: the library's own inspectors in one page that asks nobody. Its policy admits this one script and no
 * connection at all, so that what is typed cannot leave; what Node brings is replaced by the little of it that inspectors use.
 */
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildSync } from 'esbuild'

const HERE = new URL('.', import.meta.url).pathname

const STYLE = `
:root{color-scheme:light dark;--line:#8884}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
label{display:block;margin:.75rem 0 .25rem}
textarea,input,select{font:13px ui-monospace,monospace;width:100%;box-sizing:border-box;padding:.4rem}
textarea{height:6rem}button{font:inherit;margin:1rem 0;padding:.4rem 1.2rem}
pre{overflow-x:auto;border:1px solid var(--line);border-radius:8px;padding:.75rem;font-size:13px;min-height:3rem}
.warning{border-left:4px solid #b42318;padding-left:.75rem}`

const BODY = `
<h1>Inspector</h1>
<p class="warning"><strong>Test values only.</strong> Never paste a real PIN block, PAN or key into a browser, this page included.</p>
<p>The same functions as <code>issuer-pin-crypto inspect</code>, in this page. It loads nothing and sends nothing: its content security policy
admits no connection. Save it, and it works without a network.</p>
<label for="kind">What is it?</label>
<select id="kind">
<option value="pin-block">PIN block: 16 or 32 hex digits</option>
<option value="data-set">SECCOS data set: 246 hex digits</option>
<option value="jwe">JWE in compact form</option>
</select>
<label for="value">Value</label><textarea id="value" spellcheck="false" autocomplete="off"></textarea>
<div id="of-block"><label for="state">State</label><select id="state"><option>enciphered</option><option>clear</option></select>
<label for="pan">PAN of the test card (may be empty)</label><input id="pan" inputmode="numeric" autocomplete="off"></div>
<div id="of-data-set" hidden><label for="profile">Profile</label><select id="profile"></select></div>
<button id="inspect">Inspect</button>
<pre id="result" role="status" aria-live="polite"></pre>
<p><a href="index.html">Back</a></p>`

/** Into the folder of the site. */
export function writeInspector(folder) {
  writeFileSync(join(folder, 'inspector.html'), page(script()))
}

function script() {
  const node = join(HERE, 'inspector-node.mjs')
  const { outputFiles } = buildSync({
    entryPoints: [join(HERE, 'inspector-page.mjs')],
    bundle: true,
    write: false,
    minify: true,
    charset: 'ascii',
    format: 'iife',
    target: 'es2022',
    platform: 'browser',
    alias: { 'node:util': node, 'node:crypto': node },
    inject: [node],
  })
  return outputFiles[0].text.replaceAll('</', '<\\/')
}

function page(code) {
  const hash = text => `'sha256-${createHash('sha256').update(text).digest('base64')}'`
  const policy = `default-src 'none'; script-src ${hash(code)}; style-src ${hash(STYLE)}; img-src data:; base-uri 'none'; form-action 'none'`
  return `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Inspector - issuer-pin-crypto</title><style>${STYLE}</style></head>
<body>${BODY}
<script>${code}</script></body></html>
`
}
