// A browser that is told what to do, one JSON object a line: {"do": ..., ...}; it answers one line each.
// Its first line says where its pages are: {"origin": ..., "other": ...}, one site under two names.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { readFileSync } from 'node:fs';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const CLIENTS = { new: 'aws-rum-web', old: 'aws-rum-web-1' };
const RECORD = readFileSync(new URL('record.js', import.meta.url), 'utf8');

const ROW = `<tr class="row">${'<td class="cell">12.50</td>'.repeat(3)}</tr>`;
const scripts = {};
for (const [name, packageName] of Object.entries(CLIENTS)) {
  const built = await build({
    absWorkingDir: import.meta.dirname,
    entryPoints: ['app.js'],
    alias: { 'aws-rum-web': packageName },
    bundle: true,
    minify: true,
    write: false,
  });
  scripts[`/${name}.js`] = built.outputFiles[0].text;
}

const site = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://site');
  const script = scripts[pathname];
  response.setHeader('Content-Type', script ? 'text/javascript; charset=utf-8' : 'text/html; charset=utf-8');
  const name = pathname.slice(1);
  const table = `<table>${ROW.repeat(Number(searchParams.get('rows') ?? 0))}</table>`;
  response.end(script ?? `<!doctype html><title>${name}</title>${table}${CLIENTS[name] ? `<script src="/${name}.js"></script>` : ''}`);
});
await new Promise((resolve) => site.listen(0, resolve));
const { port } = site.address();
const hosts = { origin: `http://localhost:${port}`, other: `http://127.0.0.1:${port}` };

const browser = await chromium.launch({ executablePath: process.argv[2], args: ['--no-sandbox'] });
let page, base;

const sent = () => page.evaluate(() => JSON.parse(localStorage.getItem('sent') ?? '[]'));
const actions = {
  // Open a page with the client in it, in a profile of its own.
  async open({ client, host, rows, settings }) {
    const context = await browser.newContext();
    base = hosts[host];
    await context.addInitScript(`window.settings = ${JSON.stringify(settings)};\n${RECORD}`);
    page = await context.newPage();
    await page.goto(`${base}/${client}?rows=${rows}`);
  },
  // Record an event, as the page's own program would.
  record: ({ type, data }) => page.evaluate(([type, data]) => window.rum.recordEvent(type, data), [type, data]),
  sent,
  // Send what was recorded, now.
  dispatch: () => page.evaluate(() => void window.rum.dispatch()),
  // Record something and go to another page of the site at once.
  async leave({ type, data }) {
    await page.evaluate(([type, data]) => {
      window.rum.recordEvent(type, data);
      location.assign('/elsewhere');
    }, [type, data]);
    await page.waitForURL(`${base}/elsewhere`);
  },
  // Close the page; its client is turned off before, so that it says no more.
  async close() {
    await page.evaluate(() => window.rum?.disable());
    await page.context().close();
  },
};

const say = (answer) => process.stdout.write(`${JSON.stringify(answer ?? null)}\n`);
say(hosts);
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  try {
    say({ answer: await actions[order.do](order) });
  } catch (error) {
    say({ error: String(error.stack ?? error) });
  }
}
await browser.close();
site.close();
