// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Draws the dashboard of Shoots from the data of a Prometheus, and takes a picture of it.
// Arguments: address of Prometheus, first and last second (Unix time), scrape interval, file for the picture.

import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { promisify } from 'node:util';
import * as esbuild from 'esbuild';
import { parse } from 'yaml';

const [address, start, end, scrapeInterval, picture] = process.argv.slice(2);
const height = 3860;

// Packages of user interfaces come as ECMAScript and as CommonJS modules. Only one kind may be bundled, because React
// contexts are not shared between two copies of a package.
const onlyModules = {
  name: 'only-modules',
  setup(build) {
    const filter = /^(@emotion|@mui|@perses-dev|@tanstack|mdi-material-ui|use-query-params|zustand)\b/;
    build.onResolve({ filter }, ({ path, kind, pluginData, ...from }) => {
      if (pluginData === 'resolved' || kind !== 'require-call') {
        return undefined;
      }
      return build.resolve(path, {
        kind: 'import-statement', importer: from.importer, resolveDir: from.resolveDir, pluginData: 'resolved',
      });
    });
  },
};

const { outputFiles } = await esbuild.build({
  entryPoints: ['page.jsx'], outdir: '.', bundle: true, write: false, format: 'esm', minify: true, logLevel: 'warning',
  define: { global: 'globalThis', 'process.env.NODE_ENV': '"production"' },
  loader: { '.woff': 'dataurl', '.woff2': 'dataurl' },
  plugins: [onlyModules],
});
const configMap = parse(await readFile('../../pkg/component/observability/testdata/configmap.yaml', 'utf8'));
const files = {
  '/': ['text/html', '<!doctype html><meta charset="utf-8"><div id="root"></div><script type="module" src="/page.js"></script>'],
  '/page.js': ['text/javascript', outputFiles.find(({ path }) => path.endsWith('.js')).text],
  '/dashboard.json': ['application/json', Object.values(configMap.data)[0]],
};

const server = createServer((request, response) => {
  const [type, text] = files[new URL(request.url, 'http://localhost').pathname] ?? [];
  response.writeHead(text ? 200 : 404, { 'Content-Type': type ?? 'text/plain' }).end(text);
}).listen(0, '127.0.0.1');
await new Promise((resolve) => { server.once('listening', resolve); });

const query = new URLSearchParams({ prometheus: address, scrapeInterval, start: start * 1000, end: end * 1000 });
try {
  await promisify(execFile)('chromium', [
    '--headless=new', '--no-sandbox', '--hide-scrollbars', `--window-size=1600,${height}`, '--virtual-time-budget=30000',
    `--screenshot=${picture}`, `http://127.0.0.1:${server.address().port}/?${query}`,
  ], { timeout: 120_000 });
} finally {
  server.close();
}
